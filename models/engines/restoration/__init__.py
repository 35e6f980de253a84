"""Face restoration: a network that the user adds sharpens what an engine generated."""
