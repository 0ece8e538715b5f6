"""Runs for other trackers, after the fact. None is needed: a run's own files say it all."""
