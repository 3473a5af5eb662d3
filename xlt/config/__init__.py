"""The command line, settings, and the keys and classes that a config may name."""
