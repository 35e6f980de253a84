"""What there is to see of a job: its video while it grows, and a small picture of it."""
