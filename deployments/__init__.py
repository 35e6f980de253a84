"""The Ray Serve deployments, one thin class per file. They are wired in `graph.py` only."""
