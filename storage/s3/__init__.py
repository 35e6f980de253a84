"""Files in a bucket of S3, or of what speaks as it does."""
