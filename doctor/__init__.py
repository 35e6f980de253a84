"""Looks at the machine: what the service needs, what is here, and how to fix what is wrong."""
