"""Earth Engine → lazy stack. The only room that may import ``ee`` or ``geemap``."""
