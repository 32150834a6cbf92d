"""A local Earth Engine for tests: the unmodified ``ee`` client talks to it over HTTP."""
