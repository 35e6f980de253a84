"""Weights files with reproducible random values, as users would add them.

They have the published architectures and sizes where these are quick to create and to run. For HeyGem's DINet, EdTalk,
WeNet, HuBERT, DeepSpeech and face restoration they are small ONNX graphs with the published inputs and outputs.
"""
