"""The job table, API keys and secrets in a PostgreSQL database that several machines share."""
