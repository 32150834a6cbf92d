"""A whole run: its plan, its parts, on one machine or on a cluster."""
