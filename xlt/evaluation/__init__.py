"""Zero-shot evaluation in every language: what to test with which model, predictions, scores, tables."""
