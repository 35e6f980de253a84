"""The picture of a result: part of the source, size, rate, what is behind the person, file format."""
