"""Other doors to a running service: they know the client, and nothing of the service."""
