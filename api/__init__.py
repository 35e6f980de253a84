"""The HTTP API: a plain ASGI app over `jobs.ports.JobService`, without Ray."""
