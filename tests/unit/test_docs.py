"""The documentation refers to what exists: pages, headings, files, settings."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from lipwright.config import PipelineConfig

_FENCE = re.compile(r"```.*?```", re.DOTALL)
_CODE = re.compile(r"```.*?```|`[^`]+`", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE_PATH = re.compile(r"`((?:[a-z_]+/)+[\w.-]+\.(?:py|md|yaml|yml|json|service|txt))`")
_MODULE = re.compile(r"python -m\s+((?:benchmarks|cluster|training)[\w.]*\w)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def pages(repo_root: Path) -> dict[Path, str]:
    """The text of each page."""
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=repo_root, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("needs the git checkout, to know which files belong to the project")
    return {repo_root / name: (repo_root / name).read_text(encoding="utf-8") for name in tracked.stdout.split()}


def _mentions(pages: dict[Path, str], pattern: re.Pattern[str]) -> list[tuple[Path, Any]]:
    return [(page, found) for page, text in pages.items() for found in pattern.findall(text)]


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_docs_links_lead_to_files_and_headings(pages: dict[Path, str]) -> None:
    broken = []
    for page, link in _mentions({page: _FENCE.sub("", text) for page, text in pages.items()}, _LINK):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in _anchors(target.read_text()))):
            broken.append((page, link))
    assert not broken


def test_docs_paths_of_files_exist(repo_root: Path, pages: dict[Path, str]) -> None:
    paths = _mentions(pages, _CODE_PATH)
    assert not [
        each for each in paths if not any((folder / each[1]).exists() for folder in (repo_root, each[0].parent))
    ]


def test_docs_benchmark_and_training_commands_exist(repo_root: Path, pages: dict[Path, str]) -> None:
    makefile = repo_root / "Makefile"
    for page, module in _mentions(pages | {makefile: makefile.read_text(encoding="utf-8")}, _MODULE):
        path = repo_root / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{page}: {module}"


def test_docs_settings_exist(pages: dict[Path, str]) -> None:
    sections = {
        name: set(field.annotation.model_fields)
        for name, field in PipelineConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    setting = re.compile(rf"`({'|'.join(sections)})\.(?!py`|md`|sqlite3)([a-z_0-9]+)`")
    for page, (section, key) in _mentions(pages, setting):
        # The changelog also names the old ones.
        assert key in sections[section] or page.name == "CHANGELOG.md", f"{page}: {section}.{key}"


def test_docs_describe_every_setting(repo_root: Path, pages: dict[Path, str]) -> None:
    codes = [code for page, code in _mentions(pages, _CODE) if page.name != "CHANGELOG.md"]
    words = set(re.findall(r"\w+", " ".join(codes) + (repo_root / "serve_config.yaml").read_text(encoding="utf-8")))
    assert not [name for name in _settings(PipelineConfig) if name.rpartition(".")[2] not in words]


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        sections = [kind for kind in kinds if issubclass(kind, BaseModel)]
        for section in sections:
            yield from _settings(section, f"{prefix}{name}.")
        if not sections:
            yield f"{prefix}{name}"
