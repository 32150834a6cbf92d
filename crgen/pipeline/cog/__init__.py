"""One raster as a Cloud-Optimized GeoTIFF."""
