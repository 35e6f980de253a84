"""Converts networks of other packages to the ONNX files of `models/weights`."""
