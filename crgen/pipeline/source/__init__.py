"""Area and dates → Stack."""
