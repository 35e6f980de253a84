"""What `make` says."""

from __future__ import annotations

import subprocess
from pathlib import Path


def test_make_setup_ends_with_the_next_commands(repo_root: Path) -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup"], cwd=repo_root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    (touched,) = [number for number, line in enumerate(recipe) if line.startswith("touch ")]
    last = "\n".join(recipe[touched + 1 :])
    assert "Lipwright is installed in .venv." in last
    assert "make demo" in last and ".venv/bin/lipwright serve" in last
