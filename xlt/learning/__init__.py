"""Learning: the work of one optimizer step on its micro-batches."""
