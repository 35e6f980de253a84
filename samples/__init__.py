"""Scripts that make the sample files and the texts of the visible watermark."""
