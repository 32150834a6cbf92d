"""Lets mkdocstrings show docstrings as they are written here: doctests as code, Sphinx's roles as names."""

import re
from typing import Any

from griffe import Extension, Object


def as_markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return re.sub(r"^(?:(?:>>>|\.\.\.).*\n?)+", lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text, flags=re.M)


class Docstrings(Extension):
    """Rewrites every docstring when it is loaded."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """See griffe."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
