"""Pixels of chosen acquisitions as lazy arrays."""
