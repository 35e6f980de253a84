"""Text in place of sound: what speaks it, and the bounds of that."""
