"""`python -m cli`: the `lipwright` command without its installation."""

from cli.main import app

app()
