"""The doctor: what this machine lacks (machine), and whether a site can run what it will be asked (job, judge, outcome)."""
