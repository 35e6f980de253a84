"""The documentation refers to what exists: pages, headings, files, settings."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from config import PipelineConfig

_FENCE = re.compile(r"```.*?```", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE_PATH = re.compile(r"`((?:[a-z_]+/)+[\w.-]+\.(?:py|md|yaml|yml|json|service|txt))`")
_MODULE = re.compile(r"python -m\s+((?:benchmarks|training)[\w.]*\w)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _pages(repo_root: Path) -> list[Path]:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=repo_root, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("needs the git checkout, to know which files belong to the project")
    return [repo_root / name for name in tracked.stdout.split()]


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_docs_links_lead_to_files_and_headings(repo_root: Path) -> None:
    broken = []
    for page in _pages(repo_root):
        for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
            path, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                broken.append(f"{page.relative_to(repo_root)}: {link}")
    assert not broken


def test_docs_paths_of_files_exist(repo_root: Path) -> None:
    missing = [
        f"{page.relative_to(repo_root)}: {path}"
        for page in _pages(repo_root)
        for path in _CODE_PATH.findall(page.read_text(encoding="utf-8"))
        if not (repo_root / path).exists() and not (page.parent / path).exists()
    ]
    assert not missing


def test_docs_benchmark_and_training_commands_exist(repo_root: Path) -> None:
    missing = [
        f"{page.relative_to(repo_root)}: {module}"
        for page in (*_pages(repo_root), repo_root / "Makefile")
        for module in _MODULE.findall(page.read_text(encoding="utf-8"))
        if not (path := repo_root / module.replace(".", "/")).with_suffix(".py").exists()
        and not (path / "__main__.py").exists()
    ]
    assert not missing


def test_docs_settings_exist(repo_root: Path) -> None:
    sections = {
        name: set(field.annotation.model_fields)
        for name, field in PipelineConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    setting = re.compile(rf"`({'|'.join(sections)})\.(?!py`|md`|sqlite3)([a-z_0-9]+)`")
    unknown = [
        f"{page.relative_to(repo_root)}: {section}.{key}"
        for page in _pages(repo_root)
        if page.name != "CHANGELOG.md"  # which also names the old ones
        for section, key in setting.findall(page.read_text(encoding="utf-8"))
        if key not in sections[section]
    ]
    assert not unknown


def test_docs_describe_every_setting(repo_root: Path) -> None:
    files = [*_pages(repo_root), repo_root / "serve_config.yaml"]
    words = {word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))}
    assert not [name for name in _settings(PipelineConfig) if name.rpartition(".")[2] not in words]


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        sections = [kind for kind in kinds if issubclass(kind, BaseModel)]
        for section in sections:
            yield from _settings(section, f"{prefix}{name}.")
        if not sections:
            yield f"{prefix}{name}"
