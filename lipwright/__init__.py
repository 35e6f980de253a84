"""The service: API, jobs, media, storage, command line and launcher."""
