"""The table of flood scores: what `base` is compared with, on events it never saw. Run `python -m benchmarks.floods`."""
