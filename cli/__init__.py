"""The `lipwright` command."""
