"""Tuning: a short trial on a site (job), what it came to (judge), and what is kept of it for later runs (store)."""
