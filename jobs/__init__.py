"""The Director's rules: who is let in, what runs when, how a job is done. It knows the stages as a port, and no Ray."""
