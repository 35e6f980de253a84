"""Rendering for the warp engine: displacement fields, masks, mouth interior and colour, in OpenCV and in PyTorch."""
