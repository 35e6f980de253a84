"""Sources of faces: the avatars that are made of them, and the people whom they show."""
