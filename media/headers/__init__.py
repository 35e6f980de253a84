"""Reads properties of files from their first bytes, without FFmpeg."""
