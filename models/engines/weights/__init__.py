"""The weights that users bring: read in a process of their own, recognised, kept in the data folder, checked."""
