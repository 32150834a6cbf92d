"""TOML with the line of every key, so that what is wrong in a file can be pointed at."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tree_sitter
import tree_sitter_toml

from crgen.errors import RequestError

Place = tuple[str | int, ...]
"""Keys and indices from the top of a file down to a value: ``("job", 2, "aoi")``."""


class Lines:
    """Where the keys of a file stand."""

    def __init__(self, content: bytes) -> None:
        self._lines = dict(_places(content))

    def of(self, place: Place) -> int:
        """Return the line, from 1, of the innermost key on the way to ``place`` that the file holds."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)


def read_toml(path: Path) -> tuple[dict[str, Any], Lines]:
    """Read a file.

    Returns:
        Its content, and the lines of its keys.

    Raises:
        RequestError: if it cannot be read, naming the line where it is not TOML.
    """
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        return tomllib.loads(content.decode()), Lines(content)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        found = re.search(r" \(at line (\d+), column \d+\)$", reason)
        where = f"{path}:{found[1]}" if found else str(path)
        raise RequestError(f"{where}: {reason[: found.start()] if found else reason}") from None


def _places(content: bytes) -> Iterator[tuple[Place, int]]:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))
    last: dict[Place, int] = {}
    """Index of the last element of each array of tables."""
    for node in parser.parse(content).root_node.children:
        if node.type == "pair":
            yield from _pairs(node, ())
        elif node.type in ("table", "table_array_element"):
            line = node.start_point.row + 1
            keys = _keys(next(child for child in node.children if child.type.endswith("key")))
            place: Place = ()
            for at, key in enumerate(keys):
                place = (*place, key)
                if node.type == "table_array_element" and at == len(keys) - 1:
                    last[place] = last.get(place, -1) + 1
                if place in last:
                    place = (*place, last[place])
            yield place, line
            for child in node.children:
                if child.type == "pair":
                    yield from _pairs(child, place)


def _pairs(pair: Any, above: Place) -> Iterator[tuple[Place, int]]:
    place = (*above, *_keys(pair.children[0]))
    yield place, pair.start_point.row + 1
    yield from _inside(pair.children[-1], place)


def _inside(value: Any, place: Place) -> Iterator[tuple[Place, int]]:
    if value.type == "inline_table":
        for child in value.children:
            if child.type == "pair":
                yield from _pairs(child, place)
    elif value.type == "array":
        elements = [child for child in value.children if child.is_named and child.type != "comment"]
        for at, child in enumerate(elements):
            yield (*place, at), child.start_point.row + 1
            yield from _inside(child, (*place, at))


def _keys(node: Any) -> tuple[str, ...]:
    if node.type == "dotted_key":
        return tuple(key for child in node.children if child.is_named for key in _keys(child))
    text = node.text.decode()
    if node.type == "quoted_key":
        parsed: Mapping[str, Any] = tomllib.loads(f"{text} = 0")
        return (next(iter(parsed)),)
    return (text,)
