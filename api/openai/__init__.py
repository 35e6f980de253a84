"""The door for clients of OpenAI's video API: `/v1/videos`."""
