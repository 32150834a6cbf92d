"""A product says how to make it again, but not where its maker keeps files."""

import json
import shutil
from pathlib import Path

import pytest
from odc.geo.geobox import GeoBox

import crgen
from crgen.errors import RequestError, SourceError
from tests.pipeline.source.local.stacks import GRID, make_stack

pytestmark = pytest.mark.usefixtures("drawn_lightly")

FILES = {"source": "stack.zarr", "weights": "mine.safetensors", "aoi": "place.geojson"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Path:
    """The item of a product made from a stack, weights and an area that stand in a folder of their own."""
    inputs, out = (tmp_path_factory.mktemp(name) for name in ("secret", "public"))
    stack = make_stack(GeoBox((70, 90), GRID.affine, GRID.crs)).assign_coords(band=["B3", "B8", "B11"])
    stack.attrs["manifest"] = '{"t1": "2021-07-10", "t2": "2021-07-22"}'
    crgen.write_stack(stack, inputs / FILES["source"])
    shutil.copy(tiny_weights, inputs / FILES["weights"])
    outline = stack.odc.geobox.pad(-10).geographic_extent.geojson()
    (inputs / FILES["aoi"]).write_text(json.dumps(outline))
    options = {option: str(inputs / name) for option, name in FILES.items()}
    crgen.fill(**options, clip=True, dtype="float32", out=out / "map.tif")
    return out / "map.json"


def beside(item: Path, tmp_path: Path, *options: str) -> dict[str, Path]:
    """Copy a product's item, and the files of ``options`` beside it; return where all files are."""
    inputs = next(item.parent.parent.glob("secret*"))
    shutil.copy(item, tmp_path / "map.json")
    for option in options:
        copy = shutil.copytree if (inputs / FILES[option]).is_dir() else shutil.copy
        copy(inputs / FILES[option], tmp_path / FILES[option])
    return {option: inputs / name for option, name in FILES.items()}


def test_an_item_names_files_without_their_folders(made: Path) -> None:
    text = made.read_text()
    settings = json.loads(text)["properties"]["crgen:settings"]
    assert {option: settings[option] for option in FILES} == FILES
    assert "secret" not in text
    assert str(made.parent.parent) not in text


def test_what_stands_beside_the_item_is_found(made: Path, tmp_path: Path) -> None:
    beside(made, tmp_path, *FILES)
    again = crgen.fill(manifest=tmp_path / "map.json", out=tmp_path / "again.tif")
    assert again.paths.reflectance.read_bytes() == made.with_suffix(".tif").read_bytes()


def test_what_stands_in_the_working_folder_is_found(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beside(made, tmp_path)["source"].parent)
    again = crgen.fill(manifest=tmp_path / "map.json", out=tmp_path / "again.tif")
    assert again.paths.reflectance.read_bytes() == made.with_suffix(".tif").read_bytes()


@pytest.mark.parametrize("lost", FILES)
def test_what_is_not_found_is_asked_for_by_its_option(made: Path, tmp_path: Path, lost: str) -> None:
    where = beside(made, tmp_path, *(set(FILES) - {lost}))
    with pytest.raises(RequestError, match=f"'{FILES[lost]}', which is neither beside it nor here.* --{lost}$"):
        crgen.fill(manifest=tmp_path / "map.json", out=tmp_path / "again.tif")
    given = {lost: str(where[lost])}
    again = crgen.fill(manifest=tmp_path / "map.json", out=tmp_path / "again.tif", **given)
    assert again.paths.reflectance.read_bytes() == made.with_suffix(".tif").read_bytes()


def test_an_item_that_holds_whole_paths_as_0_1_0_wrote_them_is_repeated(made: Path, tmp_path: Path) -> None:
    where = beside(made, tmp_path)
    item = json.loads((tmp_path / "map.json").read_text())
    item["properties"]["crgen:settings"] |= {option: str(path) for option, path in where.items()}
    (tmp_path / "map.json").write_text(json.dumps(item))
    again = crgen.fill(manifest=tmp_path / "map.json", out=tmp_path / "again.tif")
    assert again.paths.reflectance.read_bytes() == made.with_suffix(".tif").read_bytes()


def test_an_option_named_at_its_default_goes_before_what_the_product_was_made_with(made: Path, tmp_path: Path) -> None:
    beside(made, tmp_path, *FILES)
    again = crgen.fill(manifest=tmp_path / "map.json", out=tmp_path / "again.tif", dtype="uint16")
    settings = json.loads(again.paths.item.read_text())["properties"]["crgen:settings"]
    assert (settings["dtype"], settings["clip"]) == ("uint16", True)
    with pytest.raises(TypeError, match="smooth"):
        crgen.fill(manifest=tmp_path / "map.json", smooth=3)


@pytest.mark.parametrize(
    "content",
    [
        {"type": "Feature", "properties": None, "geometry": None},
        {"type": "Feature", "properties": {"crgen:manifest": None}},
        {"source": "local", "stored": "elsewhere"},
        {"manifest": ["gee"]},
        ["gee"],
    ],
    ids=["a feature", "an empty item", "a note", "a list within", "a list"],
)
def test_other_json_is_no_manifest(tmp_path: Path, content: object) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(content))
    with pytest.raises(SourceError):
        crgen.fill(manifest=path, out=tmp_path / "map.tif")


@pytest.mark.parametrize("scenes", [["S1A_1", "S2A_2"], {"s1_t1": ["S1A_1"]}], ids=["a list", "names by variable"])
def test_what_a_stack_of_ones_own_says_of_its_scenes_stops_nothing(made: Path, tmp_path: Path, scenes: object) -> None:
    where = beside(made, tmp_path)
    stack = crgen.open_stack(where["source"])
    stack.attrs["manifest"] = json.dumps({"t1": "2021-07-10", "t2": "2021-07-22", "scenes": scenes})
    crgen.write_stack(stack, tmp_path / "own.zarr")
    options = {"source": str(tmp_path / "own.zarr"), "weights": str(where["weights"])}
    product = crgen.fill(**options, out=tmp_path / "own.tif")
    (link,) = [held for held in json.loads(product.paths.item.read_text())["links"] if held["rel"] == "derived_from"]
    assert link["href"] == "urn:crgen:source:local:own.zarr"
