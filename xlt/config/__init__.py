"""The command line, the settings, and the keys and classes that a config may name."""
