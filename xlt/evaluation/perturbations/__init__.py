"""Perturbations of test rows: noise, code-mixing, and changes of images."""
