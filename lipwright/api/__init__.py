"""The HTTP API: a plain ASGI app over `lipwright.jobs.ports.JobService`, without Ray."""
