"""Studies of many runs: robustness, statistics, curves, the paper's claims, figures, page."""
