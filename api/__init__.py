"""The HTTP API: what callers send and are told. Plain ASGI over `jobs.ports.JobService`; it knows no Ray."""
