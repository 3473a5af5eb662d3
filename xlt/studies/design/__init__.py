"""The design of a study: its runs, their configs and their folders."""
