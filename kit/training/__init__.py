"""Judges and draws the training of a network, outside the images."""
