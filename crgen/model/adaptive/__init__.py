"""The default generator, preset ``base``."""
