"""What the three packages share: errors, whole-file writes, the console, and the check for foreign packages."""

__version__ = "0.1.0"
