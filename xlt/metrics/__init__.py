"""Metrics by their official definitions. Each cites its source."""
