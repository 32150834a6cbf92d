"""What the tests of the server itself say to it through the real client."""

import io
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray


def grid(crs: str, transform: Affine, shape: tuple[int, int]) -> dict[str, Any]:
    """A computePixels grid."""
    a, b, c, d, e, f = transform[:6]
    affine = {"scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f}
    return {"dimensions": {"width": shape[1], "height": shape[0]}, "affineTransform": affine, "crsCode": crs}


def pixels(image: Any, crs: str, transform: Affine, shape: tuple[int, int]) -> NDArray[Any]:
    """The structured array computePixels answers with."""
    import ee

    request = {"expression": image, "fileFormat": "NPY", "grid": grid(crs, transform, shape)}
    return np.load(io.BytesIO(ee.data.computePixels(request)))


def valued(image: Any, band: str, crs: str, transform: Affine, shape: tuple[int, int]) -> NDArray[Any]:
    """One band with NaN where it is masked by half or more."""
    chosen = image.select([band], ["value"])
    answer = pixels(chosen.toDouble().addBands(chosen.mask().rename("share")), crs, transform, shape)
    return np.where(answer["share"] > 0.5, answer["value"], np.nan)
