"""Reads and writes audio, video and pictures; the only package that uses PyAV."""
