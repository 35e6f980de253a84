"""What engines share that rewrite a box of the frame with the RGB picture that a network makes of it."""
