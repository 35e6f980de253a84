"""Latency, capacity and synchronisation of live sessions."""
