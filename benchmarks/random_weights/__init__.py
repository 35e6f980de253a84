"""Files as users bring them, with weights that nobody trained: the same in every run, noise on a face, real plumbing.

Published architectures in their published sizes where that is quick to make and to run; for HeyGem's DINet, EdTalk,
WeNet, HuBERT, DeepSpeech and face restoration ONNX graphs of a few nodes with the published inputs and outputs.
"""
