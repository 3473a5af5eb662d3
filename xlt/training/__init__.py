"""Additions to Lightning: verified checkpoints, an exact record, the run's folder, and a progress bar."""
