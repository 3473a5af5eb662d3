"""Programs that strike runs with faults, and measure what surviving costs. pytest collects none."""
