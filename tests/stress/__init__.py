"""Programs that strike runs with faults and measure what surviving them costs; pytest collects none of them."""
