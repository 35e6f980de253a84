"""Groups of routes as classes: `@route(...)` marks a method as the handler of a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from fastapi import APIRouter

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


def route(path: str, method: str = "GET", **options: Any) -> Callable[[_Handler], _Handler]:
    """Mark a method as the handler of a path; `options` are those of `APIRouter.add_api_route`."""

    def mark(handler: _Handler) -> _Handler:
        vars(handler).setdefault("routes", []).append((path, {"methods": [method], **options}))
        return handler

    return mark


class Routes:
    """A group of routes. The class arguments are those of `APIRouter`."""

    _options: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep the class arguments for `router`."""
        cls._options = options

    def router(self) -> APIRouter:
        """Return the router of all marked methods; their names are the operation IDs."""
        router = APIRouter(**self._options)
        for name, method in vars(type(self)).items():
            for path, options in getattr(method, "routes", ()):
                router.add_api_route(path, getattr(self, name), operation_id=name, **options)
        return router
