"""A config file of a user: a whole Serve config, or a short one with overrides. Errors name file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from lipwright.api.validation_message import describe
from lipwright.config import PipelineConfig
from lipwright.errors import ConfigError
from lipwright.launch.environment import set_ray_variables

Place = tuple[str | int, ...]
"""Keys and indexes that lead to a value in a Serve config."""

APPLICATION: Final[Place] = ("applications", 0)
SETTINGS: Final[Place] = (*APPLICATION, "args")
_SERVE_KEYS: Final = frozenset(
    ("proxy_location", "http_options", "grpc_options", "controller_options", "logging_config", "tracing_config")
    + ("applications", "target_capacity")
)
_ADDRESS: Final = frozenset(("host", "port"))
_EXPECTS_KEYS: Final = "expected keys with values, such as `data_dir: /srv/lipwright`."
_PORTS: Final = range(1, 65536)


class ConfigFile:
    """A parsed config file.

    Attributes:
        path: The file.
        content: What it sets, in the form of a Serve config with one application, of which any part may be missing.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: It cannot be read, or an option of Serve in it is invalid.
        """
        self.path = path
        self._root: yaml.Node | None = None
        try:
            text = path.read_text(encoding="utf-8")
            self._root, given = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not a text file in UTF-8.") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
        except yaml.MarkedYAMLError as error:
            line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
            raise ConfigError(f"{path}{line}: not valid YAML: {error.problem or error.context}.") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}.") from error
        self.content = self._in_serve_form(self._mapping((), given))
        self._check_serve_options()

    @property
    def is_complete(self) -> bool:
        """Whether the file is a whole Serve config, not overrides of a shipped one."""
        return "import_path" in self.content["applications"][0]

    def error(self, place: Place, message: str) -> ConfigError:
        """Return the error for a value or a key of the file."""
        line, depth = self._find(place)
        prefix = next((each for each in (SETTINGS, APPLICATION) if place[: len(each)] == each != place), ())
        key = ".".join(str(part) for part in place[len(prefix) :])
        return ConfigError(": ".join(filter(None, (f"{self.path}:{line}" if depth else f"{self.path}", key, message))))

    def unknown_name(self, place: Place, *known: Collection[str]) -> ConfigError:
        """Return the error for a name that means nothing; it proposes a similar one, of the first group that has one.

        The last part of a dotted name is compared.
        """
        for names in known:
            candidates = {name.rpartition(".")[2]: name for name in names}
            if similar := difflib.get_close_matches(str(place[-1]), candidates, n=1):
                return self.error(place, f"is unknown; did you mean {candidates[similar[0]]}?")
        return self.error(place, "is unknown.")

    def validation_error(self, error: ValidationError, start: Place) -> ConfigError:
        """Return the error for the first value that a model rejects; the model's values are at `start` in the file."""
        (first, *_) = error.errors(include_url=False)
        place = (*start, *first["loc"])
        if first["type"] == "extra_forbidden":
            section = "".join(f"{part}." for part in first["loc"][:-1])
            names = {*_setting_names(), *_SERVE_KEYS, "deployments"}
            own = {name.removeprefix(section) for name in names if name.startswith(section)}
            address = {f"http_options.{name}" for name in _ADDRESS}
            return self.unknown_name(place, {name for name in own if "." not in name}, address, names)
        if first["type"] == "missing":
            return self.error(place, "is required.")
        if first["type"] == "model_type":
            return self.error(place, _EXPECTS_KEYS)
        depth = max(self._find(place)[1], len(start) + _known_depth(first["loc"]))  # then come names of alternatives
        value = first["input"]
        found = f", found {value}" if isinstance(value, int | float) else ""
        message = describe([{**first, "loc": ()}]).rstrip(".")
        return self.error(place[:depth], f"{message}{found}.")

    def _check_serve_options(self) -> None:
        """Check the options of Ray Serve, which itself ignores unknown ones. Imports Ray if the file sets any."""
        content, application = self.content, self.content["applications"][0]
        http = content.get("http_options", {})
        if not (application.keys() - {"args"} or http.keys() - _ADDRESS or content.keys() - _SERVE_KEYS):
            return
        set_ray_variables()  # before the first import of Ray
        from ray.serve import schema

        deployments = enumerate(application.get("deployments") or [])
        sections: list[tuple[Place, dict[str, Any], type[BaseModel]]] = [
            (("http_options",), http, schema.HTTPOptionsSchema),
            (APPLICATION, application, schema.ServeApplicationSchema),
            *(((*APPLICATION, "deployments", number), each, schema.DeploymentSchema) for number, each in deployments),
        ]
        for place, section, model in sections:
            for key in section.keys() - model.model_fields.keys():
                raise self.unknown_name((*place, key), model.model_fields)
        try:
            schema.ServeDeploySchema.model_validate(
                {**content, "applications": [{"import_path": "graph:build", **application}]}
            )
        except ValidationError as error:
            raise self.validation_error(error, ()) from error

    def _in_serve_form(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the content in the form of a Serve config; a short file may have settings and address at its top."""
        rest = dict(given)
        http = self._mapping(("http_options",), rest.pop("http_options", {}))
        http |= {key: rest.pop(key) for key in _ADDRESS & given.keys()}
        applications = rest.pop("applications", [{}])
        if not isinstance(applications, list) or len(applications) != 1:
            raise self.error(("applications",), "expected a list of one application.")
        application = self._mapping(APPLICATION, applications[0])
        application |= {key: rest.pop(key) for key in ("args", "deployments") if key in rest}
        settings = self._mapping(SETTINGS, application.get("args") or {})
        settings |= {key: rest.pop(key) for key in given if key in rest and key not in _SERVE_KEYS}
        deployments = application.get("deployments") or []
        if not isinstance(deployments, list):
            raise self.error((*APPLICATION, "deployments"), "expected a list, such as `- name: Studio`.")
        for number, each in enumerate(deployments):
            place = (*APPLICATION, "deployments", number)
            if "name" not in self._mapping(place, each):
                raise self.error((*place, "name"), "is required.")
        if (port := http.get("port", 1)) not in _PORTS or isinstance(port, bool):
            raise self.error(("http_options", "port"), f"must be a number from 1 to {_PORTS.stop - 1}, found {port}.")
        if not isinstance(http.get("host", ""), str):
            raise self.error(("http_options", "host"), "must be an address, such as 127.0.0.1.")
        return {**rest, "http_options": http, "applications": [{**application, "args": settings}]}

    def _mapping(self, place: Place, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(place, _EXPECTS_KEYS)
        return dict(value)

    def _find(self, place: Place) -> tuple[int, int]:
        """Return the line of a place, or of the innermost part of it that the file has, and the length of that part."""
        best = (1, 0)
        for skipped in range(4):  # a short file may leave out the first keys
            line, depth = _line_and_depth(self._root, place[skipped:])
            if depth and skipped + depth > best[1]:
                best = line, skipped + depth
        return best


def _setting_names(model: type[BaseModel] = PipelineConfig, section: str = "") -> Iterator[str]:
    """Yield the names of all settings, such as `jobs` and `jobs.max_queued_jobs`."""
    for name, field in model.model_fields.items():
        yield section + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _setting_names(field.annotation, f"{section}{name}.")


def _known_depth(loc: Place) -> int:
    """Return how many parts of a place in the settings name a setting."""
    known = set(_setting_names())
    return max((depth for depth in range(1, len(loc) + 1) if ".".join(map(str, loc[:depth])) in known), default=0)


def _line_and_depth(node: yaml.Node | None, place: Place) -> tuple[int, int]:
    line = 1
    for depth, part in enumerate(place):
        children: dict[object, tuple[yaml.Node, yaml.Node]] = {}
        if isinstance(node, yaml.MappingNode):
            children = {key.value: (key, value) for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            children = {number: (value, value) for number, value in enumerate(node.value)}
        if part not in children:
            return line, depth
        named, node = children[part]
        line = named.start_mark.line + 1
    return line, len(place)
