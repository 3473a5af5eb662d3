"""Encoded splits of tasks, cached on disk."""
