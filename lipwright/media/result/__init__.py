"""Makes the result of a job out of its segments: joins the pictures and mixes the sound."""
