"""Heads: the task's part of the model, one file for each kind of task."""
