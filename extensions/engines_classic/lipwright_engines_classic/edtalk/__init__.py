"""EdTalk: a network that sees the whole upright face, as facefusion exports it."""
