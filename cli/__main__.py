"""`python -m cli`: the `lipwright` command without installing it."""

from cli.main import app

app()
