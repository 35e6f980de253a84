"""Shared by all deployments: calls with retries, error classification, threads, Ray's private API."""
