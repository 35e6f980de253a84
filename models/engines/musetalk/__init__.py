"""The engine of MuseTalk: a U-Net generates the lower half of a face in the latent space of a VAE, in one step.

Zhang et al., "MuseTalk: Real-Time High-Fidelity Video Dubbing via Spatio-Temporal Sampling", 2024
(https://github.com/TMElyralab/MuseTalk). The networks are the user's own files.
"""
