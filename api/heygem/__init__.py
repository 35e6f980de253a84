"""HeyGem- and Duix-compatible API: `/easy/submit`, `/easy/query`, plus cancel and download."""
