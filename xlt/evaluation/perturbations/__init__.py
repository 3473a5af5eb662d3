"""Perturbations of test rows: noise and code-mixing."""
