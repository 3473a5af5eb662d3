"""From rows to micro-batches: mixture, order, steps, collate and masking."""
