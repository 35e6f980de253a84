"""Mattes of sources: who is in front, pixel by pixel, and how certain that is."""
