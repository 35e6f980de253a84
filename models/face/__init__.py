"""Faces in one picture: found, measured, told apart, seen to be covered."""
