"""`lipwright doctor`: checks this machine and explains how to fix problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None, typer.Option(help="YAML file: settings that differ from the shipped Serve config, or a whole one.")
]
ObjectStoreMemory = Annotated[
    int | None,
    typer.Option(
        min=75 * 1024**2,
        envvar="LIPWRIGHT_OBJECT_STORE_BYTES",
        help="Size of Ray's object store in bytes. Default: 30 % of the memory.",
    ),
]


def doctor(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: from the config.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port. Default: from the config.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder. Default: from the config.")] = None,
    object_store_memory: ObjectStoreMemory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Check whether this machine can run the service, and explain how to fix problems.

    Starts nothing. A service that runs in the data folder is asked whether it is ready, at whatever port it listens.
    The exit status is 1 if there is a problem.
    """
    from lipwright.doctor.checks import run_checks
    from lipwright.doctor.planned_service import DoctorOptions
    from lipwright.doctor.report import Status, print_report, worst

    report = run_checks(DoctorOptions(config, host, port, data_dir, object_store_memory))
    status = worst(report.results)
    if as_json:
        findings = [result.as_dict() for result in report.results]
        print(json.dumps({"status": status, **report.checked, "findings": findings}, indent=2))
    else:
        print_report(report.checked, report.results)
    if status is Status.PROBLEM:
        raise typer.Exit(1)
