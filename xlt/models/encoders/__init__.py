"""Encoders that tasks share."""
