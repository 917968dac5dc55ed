"""What the three packages share: errors, atomic writes, console and progress."""

__version__ = "0.1.0"
