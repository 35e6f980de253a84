"""The routes under /v1, and the views that they answer with."""
