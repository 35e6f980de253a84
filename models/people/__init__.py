"""The people in a source: who is seen when, and who speaks when."""
