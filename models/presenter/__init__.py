"""A presenter: one analysed source, with the region that is rewritten and the way a still moves."""
