"""What small files may cost: found by looking at them, before anything is decoded."""
