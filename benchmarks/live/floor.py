"""A live service without its pictures: what pace, lead, sockets and the browser cost, whatever rendering costs.

    python -m benchmarks.live.floor --render-s 0.045 --turns 10

Grey pictures that take so long are sent by the real routes; measured as by `benchmarks.live.latency`, on a machine that
is too busy for the whole.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.live.latency import measure
from tests.unit.api.live.live_parts import GreyPresenters
from tests.unit.api_server import MemoryService, serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render-s", type=float, default=0.045, help="Seconds that a moment takes.")
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = MemoryService(Path(folder))
        live = GreyPresenters(service.table)
        live.render_s = options.render_s
        with serving(service, live=live) as url:
            print(json.dumps(measure(url, options.turns), indent=1))


if __name__ == "__main__":
    main()
