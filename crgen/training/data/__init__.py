"""Data sets as samples."""
