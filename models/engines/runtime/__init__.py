"""What networks that the user adds have in common: reading their files, making them fast, feeding them."""
