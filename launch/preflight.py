"""Checks before a service starts: who may connect, the port, and whether results can be signed and stored."""

from __future__ import annotations

from config import PipelineConfig
from errors import ConfigError
from launch.port import try_to_listen
from media.labels.labeller import Labeller
from net.access_rule import AccessRule
from storage.state import check_files_access, open_keys


def check_access(host: str, settings: PipelineConfig) -> None:
    """Refuse to listen where strangers come by while everybody would be served.

    Raises:
        ConfigError: `net.access_rule.AccessRule` forbids it.
    """
    rule = AccessRule(bool(open_keys(settings.state, settings.data_dir).list()), settings.access.allow_without_keys)
    if not rule.may_listen(host):
        raise ConfigError(
            f"--host {host}: other machines are served only with API keys, and there is none in {settings.data_dir}. "
            "Make one with `lipwright keys add NAME`, or start with --allow-without-keys if nobody else gets here."
        )


def check_port(host: str, port: int) -> None:
    """Refuse a port on which something else listens.

    Raises:
        ConfigError: The port is taken, or not for this user, or the host is no address of this machine.
    """
    try:
        try_to_listen(host, port)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: expected a free port, found: {error.strerror}. Take another one, or see "
            f"what has it: ss -ltnp 'sport = :{port}'."
        ) from error


def check_results(settings: PipelineConfig) -> None:
    """Refuse to start a service that could not sign or store its results.

    Raises:
        LabelError: Results cannot be signed.
        StorageUnreachableError: The bucket cannot be used.
    """
    Labeller(settings.labels, settings.data_dir).check_signing()
    if settings.files is not None:
        check_files_access(settings)
