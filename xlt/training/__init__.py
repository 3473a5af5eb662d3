"""What Lightning lacks: verified checkpoints, an exact record, the run's folder, a bar with the task."""
