"""A ComfyUI node that makes a face speak: this folder goes into `custom_nodes`. Sends to a Lipwright service."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
