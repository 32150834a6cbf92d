"""PNG pictures of a product and of acquisitions."""
