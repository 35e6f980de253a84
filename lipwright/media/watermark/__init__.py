"""The invisible watermark: an identifier in the luma of a video that survives re-encoding, and its detector."""
