"""Which node `lipwright drain` takes."""

from __future__ import annotations

import pytest

from cluster.drain import choose_node
from deployments.runtime.ray_internals import ClusterNode
from lipwright.errors import NotFoundError, OptionError

NODES = (
    ClusterNode("aa11", "10.0.0.1", "head", True),
    ClusterNode("aa22", "10.0.0.2", "worker-1", False),
    ClusterNode("bb33", "10.0.0.3", "worker-2", False),
)


@pytest.mark.parametrize("name", ["bb33", "bb", "10.0.0.3", "worker-2"])
def test_choose_node_by_id_address_or_host(name: str) -> None:
    assert choose_node(NODES, name).id == "bb33"


def test_choose_node_with_unknown_or_ambiguous_name_fails() -> None:
    with pytest.raises(NotFoundError, match="has no node 'worker-9'.*bb33 \\(worker-2, 10.0.0.3\\)"):
        choose_node(NODES, "worker-9")
    with pytest.raises(OptionError, match="2 nodes match 'aa'"):
        choose_node(NODES, "aa")
