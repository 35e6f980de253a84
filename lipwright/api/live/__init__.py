"""Live sessions over a WebSocket at `/v1/live`: audio in, talking face out."""
