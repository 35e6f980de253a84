"""Files, API keys and secrets in a local folder."""
