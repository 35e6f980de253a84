"""Lipwright's own API: /v1."""
