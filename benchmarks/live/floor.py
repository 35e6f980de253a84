"""Latency of a live service without rendering: pacing, buffering, sockets and the browser.

    python -m benchmarks.live.floor --render-s 0.045 --turns 10

The real routes send grey frames that take the given time; measured like `benchmarks.live.latency`, for machines that
are too busy to render.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.live.latency import measure
from config import LiveConfig
from lipwright_client import Lipwright
from tests.unit.api.live.live_parts import GreyAvatars
from tests.unit.api_server import MemoryService, serving


@contextmanager
def grey_service(render_s: float = 0.0, config: LiveConfig | None = None) -> Iterator[str]:
    """Yields the URL of a service in this process that has a kept avatar."""
    with tempfile.TemporaryDirectory() as folder:
        service = MemoryService(Path(folder))
        service.looked_at = "face"
        live = GreyAvatars(service.table)
        live.render_s, live.is_forgetful = render_s, True
        with serving(service, live=live, live_config=config) as url:
            with Lipwright(url) as client:
                client.avatars.create(video=("grey.mp4", b"grey"))
            yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render-s", type=float, default=0.045, help="Seconds that rendering one chunk takes.")
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    with grey_service(options.render_s) as url:
        print(json.dumps(measure(url, options.turns), indent=1))


if __name__ == "__main__":
    main()
