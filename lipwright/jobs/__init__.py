"""The logic of the Director, without Ray: admission, scheduling and running of jobs."""
