"""The contract between data and models: batches, packing and predictions."""
