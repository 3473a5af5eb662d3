"""The analysis of a study: scores, intervals, curves, tests and claims."""
