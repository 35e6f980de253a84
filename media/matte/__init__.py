"""Mattes: the video of alpha planes beside a source, and cutting people out of frames with it."""
