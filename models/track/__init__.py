"""One face over a whole source: followed, judged, smoothed."""
