"""The mouth in numbers: its shape, its lips in the mesh and in the picture, its motion."""
