"""Where the CPU time of a frame goes, and what is the least that each step can cost."""
