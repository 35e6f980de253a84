"""Files to deploy Lipwright on a cluster, and batches of jobs.

`python -m cluster.batch` puts the working directory first on the import path. It is removed here, before any module of
ours is imported, unless it is the folder that holds this package.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", str(Path.cwd())) and Path.cwd() != _ROOT:
    del sys.path[0]
