"""Refuses to build a wheel: the service runs from a checkout or a container, with its configs and samples beside it."""

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

_MESSAGE = (
    "Lipwright is not distributed as a wheel. Install it from a checkout with `make setup` or "
    "`pip install --editable .`, or use the container (cluster/Containerfile). "
    "The client alone is the package in lipwright_client/."
)


class NoWheel(bdist_wheel):
    """`pip install .` and `pip wheel .` end here; `pip install --editable .` does not."""

    def run(self) -> None:
        """Exit with the ways to install."""
        raise SystemExit(_MESSAGE)


setup(cmdclass={"bdist_wheel": NoWheel})
