"""What is due, running it, and what became of it."""
