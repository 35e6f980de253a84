"""Labels that mark a video as synthetic: tags, signed C2PA manifests, a visible watermark; and their inspection."""
