"""The arguments of the training command: current and former names, types, bounds, contradictions, help."""
