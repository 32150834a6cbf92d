"""Earth Engine as a source; beside :mod:`crgen.pipeline.pull` all of the pipeline that knows :mod:`crgen.gee`."""
