"""Files, API keys and secrets in a folder of this machine."""
