"""Networks and geometry in plain Python: no Ray, no HTTP, no global state."""
