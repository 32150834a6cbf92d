"""Data → weights."""
