"""The Gradio page at `/gradio`: a client of this service that acts with the credentials of its user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import FastAPI

from lipwright.config import PipelineConfig
from lipwright.errors import ConfigError
from lipwright_client import AsyncLipwright

if TYPE_CHECKING:
    import gradio

PATH: Final = "/gradio"
_CREDENTIALS = ("authorization", "x-api-key", "cookie")


def mount_gradio(app: FastAPI, config: PipelineConfig) -> None:
    """Mount the page behind the access control of `app`.

    Raises:
        ConfigError: The extra `gradio` is not installed.
    """
    try:
        from integrations.gradio_page import GradioPage
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"gradio.enabled: {error.name} is not installed. Install it with: pip install -e '.[gradio]'"
        ) from error
    url = config.gradio.service_url.rstrip("/")

    def open_client(request: gradio.Request) -> AsyncLipwright:
        credentials = {name: request.headers[name] for name in _CREDENTIALS if name in request.headers}
        # The request was checked to come from our own page, so its session cookie may be used.
        return AsyncLipwright(url, api_key="", headers={**credentials, "Origin": url})

    GradioPage(open_client).mount(app, PATH, config.limits.max_upload_bytes)
