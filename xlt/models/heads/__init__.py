"""Heads: the task's part of the model, one file a kind of task."""
