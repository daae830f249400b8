"""Pages over results: one file that compares some runs or submissions, and a leaderboard of all submissions of a folder."""
