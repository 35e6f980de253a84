"""DINet in two kinds: the original network (torch) and HeyGem's `dinet_v1` (an ONNX export)."""
