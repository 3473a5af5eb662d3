"""Layers and attention for packed sequences."""
