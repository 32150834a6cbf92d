"""A sheet of panels, with a scale and a legend, as one PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL.PngImagePlugin import PngInfo

DPI = 150
INK, MUTED = "#1a1a1a", "#666666"
MISSING: dict[str, Any] = {"facecolor": "#ededed", "edgecolor": "#b8b8b8", "hatch": "////", "linewidth": 0.0}
MARGIN = 0.25
"""The sheet's edge in inches."""

Entry = tuple[str, dict[str, Any]]
"""A legend's label, and how its patch is drawn."""


class Sheet:
    """A figure laid out in inches from its upper left corner."""

    def __init__(self, width: float) -> None:
        self.width = self.height = width
        self._figure = Figure(figsize=(width, width), dpi=DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self._figure)

    def set_height(self, height: float) -> None:
        """Set the height, before anything is placed."""
        self.height = height
        self._figure.set_size_inches(self.width, height)

    def write(self, left: float, top: float, text: str, room: float, **style: Any) -> None:
        """Write one line, set smaller where it would not fit the room."""
        style = {"color": INK, "va": "top"} | style
        artist = self._figure.text(left / self.width, 1 - top / self.height, text, **style)
        smaller = room / max(room, self._text_width(artist))
        artist.set_fontsize(style["fontsize"] * smaller)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return hatched axes: what an image leaves transparent is missing."""
        bottom = self.height - top - height
        axes = self._figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, zorder=-1, **MISSING))
        for spine in axes.spines.values():
            spine.set(color=MUTED, linewidth=0.5)
        return axes

    def draw_scale(self, top: float, metres_per_inch: float, panel_width: float) -> float:
        """Draw a scale bar and an arrow to the north at the right edge, and return where they begin."""
        longest = metres_per_inch * max(panel_width * 0.4, 0.3)
        power = 10 ** math.floor(math.log10(longest))
        metres = power * max(n for n in (1, 2, 5) if n * power <= longest)
        label = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
        right = self.width - MARGIN
        left = right - metres / metres_per_inch
        y = 1 - (top + 0.2) / self.height
        ends = [left / self.width, right / self.width]
        self._figure.add_artist(Line2D(ends, [y, y], color=INK, linewidth=2.5, solid_capstyle="butt"))
        self.write((left + right) / 2, top, label, right - left + 0.5, fontsize=8, ha="center")
        self.write(left - 0.5, top, "N ▲", 0.4, fontsize=9)
        return float(left - 0.5)

    def wrapped(self, legend: Sequence[Entry]) -> list[list[tuple[float, Entry]]]:
        """Break legend entries into lines, each entry with its distance from the left in inches."""
        lines: list[list[tuple[float, Entry]]] = []
        left = self.width
        for entry in legend:
            artist = self._figure.text(0, 0, entry[0], fontsize=9)
            needed = 0.24 + self._text_width(artist) + 0.25
            artist.remove()
            if left + needed - 0.25 > self.width - MARGIN:
                lines.append([])
                left = MARGIN
            lines[-1].append((left, entry))
            left += needed
        return lines

    def draw_legend(self, entries: Sequence[tuple[float, Entry]], top: float) -> None:
        """Draw one line of the legend."""
        for left, (label, patch) in entries:
            corner = (left / self.width, 1 - (top + 0.13) / self.height)
            size = (0.18 / self.width, 0.13 / self.height)
            self._figure.add_artist(Rectangle(corner, *size, transform=self._figure.transFigure, **patch))
            self.write(left + 0.24, top, label, self.width, fontsize=9)

    def png(self, xmp: str = "") -> bytes:
        """Return the picture, with an XMP packet in it if one is given."""
        buffer, info = io.BytesIO(), PngInfo()
        info.add_text("Software", "crgen")
        if xmp:
            info.add_itxt("XML:com.adobe.xmp", xmp)
        self._figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs={"pnginfo": info})
        return buffer.getvalue()

    def _text_width(self, artist: Text) -> float:
        renderer = self._canvas.get_renderer()  # type: ignore[no-untyped-call]
        return float(artist.get_window_extent(renderer).width) / DPI
