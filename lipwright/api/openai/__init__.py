"""OpenAI-compatible video API: `/v1/videos`."""
