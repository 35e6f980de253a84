"""What the first bytes of a file say, read without FFmpeg."""
