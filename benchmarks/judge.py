"""Runs the independent evaluator: scripts in a folder outside this repository.

`controls.py` and `split.py` make material without leakage, `score.py` computes metrics, and `sheet.py` draws contact
sheets. Nothing is imported from it, and Lipwright does not use its networks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_COMMAND_S = 900.0
# One thread per command, as several run in parallel.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class JudgeError(Exception):
    """A command of the evaluator failed. Argument: the command and its last lines."""


@dataclass(frozen=True)
class Judge:
    """The folder of the evaluator, and of its cached landmarks."""

    scripts: Path
    cache: Path

    def controls(self, clip: Path, folder: Path, max_frames: int) -> Path:
        """Makes source, ground truth, silence and control results of a clip; returns `folder`."""
        if not (folder / "ctl_jitter.mp4").exists():  # written last
            self._run("controls.py", str(clip), str(folder), str(max_frames))
        return folder

    def split(self, clip: Path, folder: Path) -> Path:
        """Makes the first half, the second half and the audio of the second half; returns `folder`."""
        if not (folder / "driving.wav").exists():
            self._run("split.py", str(clip), str(folder))
        return folder

    def score(self, result: Path, source: Path, audio: Path, truth: Path | None) -> dict[str, Any]:
        """Returns the metrics of one result, by block and name."""
        out = result.with_suffix(".json")
        arguments = [str(result), "--source", str(source), "--audio", str(audio), "--json", str(out)]
        self._run("score.py", *arguments, *(["--truth", str(truth)] if truth else []))
        figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return figures

    def sheet(self, result: Path, source: Path, out: Path) -> None:
        """Draws eight frames of a result and their mouths beside those of the source."""
        self._run("sheet.py", str(result), str(source), str(out))

    def _run(self, script: str, *arguments: str) -> None:
        command = [sys.executable, str(self.scripts / script), *arguments]
        environment = {**os.environ, **_ENVIRONMENT, "EVAL_CACHE": str(self.cache)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_MAX_COMMAND_S)
        if done.returncode:
            last_lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
            raise JudgeError(f"{script} {' '.join(arguments)}: exit code {done.returncode}\n{last_lines}")
