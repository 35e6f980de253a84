"""Speech synthesis and transcription: voices, their limits, and the cues of a dub."""
