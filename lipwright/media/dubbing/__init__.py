"""Synthesized speech, fitted into the time slots of a dub."""
