"""Face detection, landmarks, appearance and mouth occlusion in a single frame."""
