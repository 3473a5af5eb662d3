"""Predictions for rows of the user's own: a file or a pipe, and any language."""
