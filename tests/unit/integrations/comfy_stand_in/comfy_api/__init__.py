"""The versioned interface of ComfyUI."""
