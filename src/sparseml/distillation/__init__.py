"""Distillation around its modifier: where the teacher comes from, its outputs computed once, and the loss."""
