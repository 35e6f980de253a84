"""A live stream as it is written: groups of pictures, sound, and the fragments that carry both."""
