"""The report of a study: figures, tables, page and dashboard."""
