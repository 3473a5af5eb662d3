"""Studies: many runs planned, run and compared as one."""
