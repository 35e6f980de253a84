"""The picture of a result: part of the source, size, rate, background, file format."""
