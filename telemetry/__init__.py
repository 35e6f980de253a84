"""What a running service says of itself: metrics, and the job that a log line belongs to."""
