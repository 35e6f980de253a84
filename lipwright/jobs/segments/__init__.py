"""The segments of a job: how its frames are divided, which are finished, and how many are rendered at a time."""
