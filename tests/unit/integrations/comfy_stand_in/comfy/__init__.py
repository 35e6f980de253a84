"""ComfyUI, as far as the node asks for it."""
