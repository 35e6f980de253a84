"""Face restoration: a network that the user brings sharpens what an engine painted."""
