"""Attacks of hostile clients on a service that anybody can reach."""
