"""Images: rendered from one recipe into two formats, built, described, trusted."""
