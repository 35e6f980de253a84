"""Faces turned upright by five points, as many networks want them, and the way back into the frame."""
