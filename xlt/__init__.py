"""xlt: a laboratory for cross-lingual transfer."""
