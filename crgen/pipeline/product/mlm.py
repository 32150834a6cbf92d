"""Which model made a product, by STAC's machine learning model extension (https://stac-extensions.github.io/mlm, 1.4).

The extension asks for a name, an architecture, tasks, inputs and outputs, and for an asset that is the model. The
weights are no file of the product: that asset names them by their name and digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pystac
import torch

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
WEIGHTS = "urn:crgen:weights:"
"""What the href of weights begins with."""
AXES = ["batch", "channel", "height", "width"]


def describe_model(item: pystac.Item, card: Mapping[str, Any], sha256: str) -> None:
    """Add the extension's fields and the asset of the weights to an item.

    Args:
        item: of the product.
        card: the model card.
        sha256: digest of the weights, hexadecimal.
    """
    config, window = card["generator"], card["window"]
    pols, bands = list(config["pols"]), list(config["bands"])
    outputs = [_output("reflectance of t2", "regression", len(bands), window)]
    if config["form"] == "adaptive" or config["water"]:
        outputs.append(_output("probability of water at t1 and t2", "segmentation", 2, window))
    item.stac_extensions.append(MLM)
    item.properties |= {
        "mlm:name": _name(card["name"]),
        "mlm:architecture": f"CRGenNet ({config['form']})",
        "mlm:framework": "PyTorch",
        "mlm:framework_version": re.sub(r"^(\d+\.\d+\.\d+).*", r"\1", torch.__version__),
        "mlm:tasks": ["generative", *(output["tasks"][0] for output in outputs)],
        "mlm:input": [
            # Radar is in no band of the product.
            *(_input(f"Sentinel-1 {', '.join(pols)} of {t}, dB", [], config["db_range"], window) for t in ("t1", "t2")),
            _input("Sentinel-2 of t1, reflectance", bands, [config["reflectance_range"]] * len(bands), window),
        ],
        "mlm:output": outputs,
    }
    asset = pystac.Asset(
        f"{WEIGHTS}{quote(card['name'], safe='')}:{sha256}",
        f"Weights '{card['name']}'",
        "by name and SHA-256 of their tensors; no file of the product",
        roles=["mlm:model", "mlm:weights"],
        extra_fields={"mlm:artifact_type": "safetensors"},
    )
    item.add_asset("model", asset)


def files_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the assets of an Item, decoded from JSON, that are files of its product: all but the weights.

    Raises:
        KeyError, TypeError, AttributeError: if it is no such Item.
    """
    return {key: asset for key, asset in item["assets"].items() if not asset["href"].startswith(WEIGHTS)}


def _name(name: str) -> str:
    """Return a name that the extension admits: letters, digits and ``_.-``, from a letter to a letter or digit."""
    return "CRGenNet " + (re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("_.-") or "weights")


def _input(name: str, bands: list[str], ranges: Any, window: int) -> dict[str, Any]:
    scaling = [{"type": "min-max", "minimum": low, "maximum": high} for low, high in ranges]
    held = {"shape": [-1, len(scaling), window, window], "dim_order": AXES, "data_type": "float32"}
    return {"name": name, "bands": bands, "input": held, "value_scaling": scaling}


def _output(name: str, task: str, channels: int, window: int) -> dict[str, Any]:
    held = {"shape": [-1, channels, window, window], "dim_order": AXES, "data_type": "float32"}
    return {"name": name, "tasks": [task], "result": held}
