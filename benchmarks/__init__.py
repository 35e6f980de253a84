"""The measurements behind the figures in docs/."""
