"""Live sessions: sound in, a talking face out, over one WebSocket at `/v1/live`."""
