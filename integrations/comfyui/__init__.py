"""ComfyUI node for Lipwright; copy this folder to `custom_nodes`. Requires a Lipwright service."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
