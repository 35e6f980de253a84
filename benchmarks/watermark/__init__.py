"""Visibility, cost, robustness and false positives of the invisible watermark."""
