"""A training from its command line to its report, for any task: `run.py` is the runner, and calls the rest."""
