"""Attacks of hostile clients on a service that anybody can reach."""

UPLOAD_PAUSE_S = 8.0  # the longest pause of an upload here, less than half of what it is by default
