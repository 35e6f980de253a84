"""Outgoing connections: address checks, URL downloads, webhooks."""
