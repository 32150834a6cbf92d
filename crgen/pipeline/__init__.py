"""Area → stack → prediction → cloud-free COG. Knows xarray and dask, never ``ee``."""
