"""Code that is shared by engines whose network redraws a box of the frame as an RGB picture."""
