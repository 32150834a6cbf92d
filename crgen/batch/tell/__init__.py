"""Telling people, Prometheus and a JSON log."""
