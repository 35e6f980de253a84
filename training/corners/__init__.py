"""The corners of the mouth: width, protrusion and corner height are learned from two corpora."""
