"""Mouths of single phones: planned against rendered shapes."""
