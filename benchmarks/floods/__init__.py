"""The table of flood scores: `base` and what it is compared with, on events it never saw."""
