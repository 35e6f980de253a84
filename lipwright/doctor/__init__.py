"""Checks whether this machine meets the needs of the service, and says how to fix what is wrong."""
