"""What a presenter holds in memory for engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.unit.models.engines.dinet.scenes import make_presenter


@dataclass
class Kept:
    """Satisfies `models.presenter.folder.Keeper`."""

    name: str
    version: str


def test_variants_of_an_engine_do_not_get_each_others_things(tmp_path: Path) -> None:
    presenter = make_presenter(tmp_path)
    heygem, original = Kept("dinet", "1-heygem"), Kept("dinet", "1-original")
    assert presenter.remember(heygem, lambda: "crops of 256") == "crops of 256"
    assert presenter.remember(original, lambda: "crops of 416") == "crops of 416"
    assert presenter.remember(heygem, lambda: "read again") == "crops of 256"
