"""Decodes untrusted files in sandboxed processes with bounded resources, and shares their frames."""
