"""Encoders, and the facts about them that batches depend on."""
