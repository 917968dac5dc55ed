"""What the training command may be told: names old and new, types, bounds, contradictions, help."""
