"""Marks that say of a video that it is synthetic: tags, signed manifests, a visible mark, and how they are read."""
