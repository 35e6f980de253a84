"""The door for programs that were written for HeyGem or Duix: `/easy/submit`, `/easy/query`, and what they lacked."""
