"""Mattes of sources: the alpha of the person in each pixel, and its certainty."""
