"""Mouth shape, lip model, lip line detection and motion statistics."""
