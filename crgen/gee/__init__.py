"""Earth Engine → lazy stack. The only room that may import ``ee`` or ``geemap``.

The way through it: :func:`~crgen.gee.choose.find.find_scenes` chooses acquisitions and freezes them in a
:class:`~crgen.gee.manifest.Manifest`; :func:`~crgen.gee.fetch.arrays.open_pull` lays out the tiles of its scenes on a
grid; :meth:`~crgen.gee.fetch.arrays.Pull.arrays` gives lazy arrays. :func:`preview` shows a manifest on a map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crgen.gee.maps import preview

__all__ = ["preview"]


def __getattr__(name: str) -> Any:
    """Import :func:`preview` when it is first used."""
    if name != "preview":
        raise AttributeError(f"module 'crgen.gee' has no attribute '{name}'")
    from crgen.gee.maps import preview

    return preview
