"""Stack → blended chunks of a map."""
