"""Encoder, attention, heads and optimizer."""
