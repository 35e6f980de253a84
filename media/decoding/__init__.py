"""Untrusted files are decoded in processes of their own: bounded, ended when nobody wants them, their frames shared."""
