"""Data of a run: generated, published, or what one stage of another run read."""
