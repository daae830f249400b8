"""The job script: how it is rendered."""
