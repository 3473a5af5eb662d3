"""Speed of xlt, compared with `transformers.Trainer` and with the machine's limit: `python -m benchmarks`."""
