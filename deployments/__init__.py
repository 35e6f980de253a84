"""What runs where: one thin Ray Serve class per file. They meet only in `graph.py`."""
