"""How stills move, compared with people who speak."""
