"""Face mesh points, the head frame and thin-plate splines."""
