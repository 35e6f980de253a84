"""Mouths of single phones: contact sheets, and planned against rendered shapes."""
