"""The weights that users add: read in a process of their own, recognised, kept in the data folder, checked."""
