"""Files in an S3 bucket, or one with a compatible API."""
