"""Submission folders: packed from a valid run, and checked."""
