"""Studies of many runs: robustness, statistics, curves over the volume, the paper's claims, figures and the page."""
