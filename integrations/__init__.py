"""Integrations with other programs. They use the client only, not the service's code."""
