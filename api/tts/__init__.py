"""Text-to-speech: backends and limits."""
