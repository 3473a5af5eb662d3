"""Rows, examples, features, their order and their batches."""
