"""Subtitles: cues with their speakers, read from and written to SRT and WebVTT files."""
