"""A working directory full of modules that nobody may import."""

from __future__ import annotations

from pathlib import Path

_MODULES = ("models", "graph", "yaml", "lipwright/__init__", "deployments/__init__")
_MARKER = "imported.txt"


def make_hostile_folder(folder: Path) -> Path:
    """Make `folder` with modules that have the names of ours and leave a note when they are imported."""
    for module in _MODULES:
        path = folder / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(folder / _MARKER)!r}, 'a').write({module + chr(10)!r})\n", encoding="utf-8")
    return folder


def imported_modules(folder: Path) -> list[str]:
    """The modules of a hostile folder that some process has imported."""
    marker = folder / _MARKER
    return marker.read_text(encoding="utf-8").split() if marker.exists() else []
