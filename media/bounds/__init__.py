"""Limits on the cost of small files, checked before anything is decoded."""
