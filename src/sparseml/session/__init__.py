"""Training under a recipe: a session calls the modifiers, one callback ties it to Transformers' Trainer."""
