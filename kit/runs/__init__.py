"""A run, from its launch to its verdict."""
