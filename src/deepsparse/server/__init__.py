"""The server: classifiers behind HTTP."""
