"""requirements.lock pins what pyproject.toml allows and the image runs with, by hash and without an address."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

EXTRAS = ("cpu", "postgres", "s3")
PYTHON_311_ON_LINUX = {"python_version": "3.11", "python_full_version": "3.11.14", "sys_platform": "linux"}


@pytest.fixture(scope="module")
def lock(repo_root: Path) -> str:
    return (repo_root / "requirements.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", lock, re.MULTILINE))


def test_requirements_lock_lines_are_pins_or_hashes(lock: str, pins: dict[str, str]) -> None:
    entries = re.split(r"\n(?! )", lock.strip())
    entries = [entry for entry in entries if not entry.startswith("#")]
    assert len(entries) == len(pins)
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), entry[:200]


def test_requirements_lock_pins_are_in_ranges_of_the_project(repo_root: Path, pins: dict[str, str]) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for name in EXTRAS for text in project["optional-dependencies"][name]]
    for text in (*project["dependencies"], *extras):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(PYTHON_311_ON_LINUX):
            assert requirement.specifier.contains(pins[requirement.name], prereleases=True), f"{text}: run `make lock`"


def test_requirements_lock_pins_equal_those_of_the_image(repo_root: Path, pins: dict[str, str]) -> None:
    lines = (repo_root / "cluster" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    image = dict(line.split("==") for line in lines if not line.startswith("#"))
    different = {name: (pins[name], image[name]) for name in pins.keys() & image if pins[name] != image[name]}
    assert not different, "run `make lock`"
    assert len(pins.keys() & image) > 100
