"""Previews of a job: its growing video, and a thumbnail."""
