"""What every network needs for its training, whatever the benchmark: it knows none.

A benchmark gives a `task.Task`, and `train.train` does the rest.
"""
