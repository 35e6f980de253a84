"""What networks that the user brings have in common: reading their files, making them fast, feeding them."""
