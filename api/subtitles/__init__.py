"""Subtitles of recordings: transcription and translation by other servers."""
