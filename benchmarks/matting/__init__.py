"""Mattes: their errors and their cost."""
