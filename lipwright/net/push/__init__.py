"""Pushes live streams to allowed destinations: RTMP(S), SRT and WHIP."""
