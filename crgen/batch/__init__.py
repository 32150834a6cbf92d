"""Scheduled jobs: areas that are watched, and every new acquisition turned into a product once."""
