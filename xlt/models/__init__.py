"""Encoders, heads, kernels and optimizer."""
