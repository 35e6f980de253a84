"""Outputs of a live session: destinations to which it is pushed."""
