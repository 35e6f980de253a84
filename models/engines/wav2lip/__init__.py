"""Wav2Lip (Prajwal et al., A Lip Sync Expert Is All You Need, 2020) with weights that the user adds."""
