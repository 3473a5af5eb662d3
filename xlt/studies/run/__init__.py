"""The runs of a study: the engine, the launcher and a node."""
