"""A rectangle of pixels."""

from __future__ import annotations

from typing import NamedTuple

from odc.geo.geobox import GeoBox


class Box(NamedTuple):
    """A rectangle of pixels, half-open: rows ``r0 … r1-1``, columns ``c0 … c1-1``."""

    r0: int
    r1: int
    c0: int
    c1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.r1 - self.r0, self.c1 - self.c0

    def intersect(self, other: Box) -> Box | None:
        """Return the common rectangle, None if there is none."""
        box = Box(max(self.r0, other.r0), min(self.r1, other.r1), max(self.c0, other.c0), min(self.c1, other.c1))
        return box if box.r0 < box.r1 and box.c0 < box.c1 else None

    def grow(self, pixels: int) -> Box:
        """Return the rectangle with a margin added on every side."""
        return Box(self.r0 - pixels, self.r1 + pixels, self.c0 - pixels, self.c1 + pixels)

    def windows(self, side: int) -> Box:
        """Return the rectangle of all windows that touch this one.

        Args:
            side: of a window in pixels, even; windows stand at every half side counted from the origin.
        """
        stride = side // 2
        r0, c0 = (((low - side) // stride + 1) * stride for low in (self.r0, self.c0))
        r1, c1 = ((high - 1) // stride * stride + side for high in (self.r1, self.c1))
        return Box(r0, r1, c0, c1)

    def slices(self, origin: Box) -> tuple[slice, slice]:
        """Return the slices of this rectangle in an array that holds ``origin``."""
        return (
            slice(self.r0 - origin.r0, self.r1 - origin.r0),
            slice(self.c0 - origin.c0, self.c1 - origin.c0),
        )


def grid_of(box: Box, near: GeoBox) -> GeoBox:
    """Return the grid of a rectangle, with the pixels of another grid."""
    own = lattice_box(near)
    return near.translate_pix(box.c0 - own.c0, box.r0 - own.r0).expand(box.shape)


def lattice_box(geobox: GeoBox) -> Box:
    """Return the rectangle of ``geobox`` in pixels counted from the CRS's origin, rows downward.

    A grid whose corners are not multiples of its resolution is counted from the nearest such corner.
    """
    a = geobox.affine
    r0, c0 = round(-a.f / a.a), round(a.c / a.a)
    return Box(r0, r0 + geobox.shape[0], c0, c0 + geobox.shape[1])
