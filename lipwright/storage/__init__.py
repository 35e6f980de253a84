"""The job table and the files. Plain Python: no Ray, no HTTP."""
