"""Guided runs: a file of rows alone is enough to train, export, verify and summarize a model."""
