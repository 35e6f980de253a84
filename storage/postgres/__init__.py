"""The job table, API keys and secrets in a PostgreSQL that several machines share."""
