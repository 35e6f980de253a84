"""What the settings of video encoders cost, and what they keep of a result."""
