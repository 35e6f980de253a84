"""Speech: level, activity, stress, encoder features and mouth prediction."""
