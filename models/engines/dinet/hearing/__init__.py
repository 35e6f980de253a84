"""What the generators hear: wenet's rows for HeyGem's, DeepSpeech's letters for the original."""
