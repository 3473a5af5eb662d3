"""Sampling of micro-batches: mixture, order, steps, masking and collate."""
