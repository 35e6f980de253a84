"""An avatar is one analysed source: its face track, the region that is rewritten and how a still moves."""
