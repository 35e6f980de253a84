"""The original DINet: its network in PyTorch, and what runs it."""
