"""Starting the service on this machine: the one reader of the Serve config, and who may listen where."""
