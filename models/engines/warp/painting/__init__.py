"""How the warp engine paints: fields of displacement, masks, teeth, colour; in OpenCV and in PyTorch."""
