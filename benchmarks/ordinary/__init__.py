"""Ordinary ground, where nothing is flooded."""
