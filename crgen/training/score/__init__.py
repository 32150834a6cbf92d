"""Weights → tables."""
