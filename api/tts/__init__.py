"""Speaks the texts of a received form."""
