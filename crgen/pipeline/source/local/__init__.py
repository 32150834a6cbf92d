"""Stacks in local files."""
