"""The page by Gradio at `/gradio`: a client of this very service, which acts for whoever sends its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import FastAPI

from config import PipelineConfig
from errors import ConfigError
from lipwright_client import AsyncLipwright

if TYPE_CHECKING:
    import gradio

PATH: Final = "/gradio"
_CREDENTIALS = ("authorization", "x-api-key", "cookie")


def mount_gradio(app: FastAPI, config: PipelineConfig) -> None:
    """Show the page behind the gate of `app`: who may not use the service does not see it either.

    Raises:
        ConfigError: The extra is not installed.
    """
    try:
        from integrations.gradio_page import GradioPage
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"gradio.enabled: expected the extra, found no {error.name}: pip install -e '.[gradio]'."
        ) from error
    url = config.gradio.service_url.rstrip("/")

    def open_client(request: gradio.Request) -> AsyncLipwright:
        shown = {name: request.headers[name] for name in _CREDENTIALS if name in request.headers}
        # The gate has seen that a page of this service sent the request: a session's cookie holds on its way back, too.
        return AsyncLipwright(url, api_key="", headers={**shown, "Origin": url})

    GradioPage(open_client).mount(app, PATH, config.limits.max_upload_bytes)
