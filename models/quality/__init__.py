"""What is measured of a job, and what is said about it."""
