"""Metrics by their official definitions; each cites its source."""
