"""Limits on what small files may cost, checked before anything is decoded."""
