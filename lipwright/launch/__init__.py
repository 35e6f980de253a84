"""Starts the service on this machine: reads the Serve config, checks access, runs Ray and the front proxy."""
