"""Objects in front of a mouth: which are found, and how well they are masked."""
