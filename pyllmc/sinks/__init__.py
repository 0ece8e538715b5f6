"""Runs for other trackers, while they train or afterwards. None is needed: a run's own files say it
all, and whatever happens to a tracker, they and the training stay as they are."""
