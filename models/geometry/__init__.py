"""Points of a face and of a head: their names, the head frame, smooth warps."""
