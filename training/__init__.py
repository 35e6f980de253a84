"""Scripts that make the files of `models/weights` which are Lipwright's own; never imported by the service."""
