"""The command line: parse, call the API, show progress, map errors to exit codes."""

from crgen.cli.main import main

__all__ = ["main"]
