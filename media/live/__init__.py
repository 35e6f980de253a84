"""Encodes and muxes live streams: GOPs, Opus audio, and MP4 fragments."""
