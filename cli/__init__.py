"""The `lipwright` command, and what it talks to a service with."""
