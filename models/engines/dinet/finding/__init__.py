"""Where the face lies by HeyGem's own detector and landmarks, where the user brought them."""
