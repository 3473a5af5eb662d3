"""How fast xlt is, against what the field uses and against the machine: `python -m benchmarks`."""
