"""Active speaker detection, measured on composed films."""
