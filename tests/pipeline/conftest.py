"""Fills of the demo scene, of which what is read again is not drawn again."""

from collections.abc import Iterator

import pytest

from tests.demo import draw_once


@pytest.fixture(autouse=True, scope="package")
def drawn_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        draw_once(patched.setattr)
        yield
