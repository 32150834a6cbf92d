"""Which acquisitions serve an area and its dates."""
