"""Tracking of one face over a whole source: landmarks, visibility, smoothing."""
