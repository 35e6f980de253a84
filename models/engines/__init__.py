"""The engines: whatever makes a face speak, one folder each, behind one contract."""
