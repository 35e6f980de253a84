"""Several clips of one avatar: transitions between them, and which frames are shown when."""
