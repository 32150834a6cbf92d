"""The jobs file: what is asked."""
