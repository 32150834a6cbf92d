"""The connection to Earth Engine: session, credentials, limit of concurrency, retry."""
