"""Encodes and muxes live streams: H.264 pictures, Opus audio, and MP4 fragments."""
