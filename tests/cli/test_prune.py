"""`crgen batch prune` says what goes, what stays and why."""

import json

from tests.cli.conftest import files_in


def product(folder, name, created):
    """What the command looks at of a product."""
    folder.mkdir(exist_ok=True)
    item = {
        "type": "Feature",
        "id": name,
        "properties": {"created": created, "crgen:t2": created[:10], "crgen:sha256": ""},
        "assets": {"reflectance": {"href": f"./{name}.tif"}},
    }
    (folder / f"{name}.json").write_text(json.dumps(item))
    (folder / f"{name}.tif").write_bytes(bytes(1_000_000))


def test_it_says_what_is_removed_and_what_is_kept(crgen, tmp_path):
    for name, year in (("a", 2021), ("b", 2022), ("c", 2023)):
        product(tmp_path / "maps", name, f"{year}-01-01T00:00:00Z")
    (tmp_path / "maps" / "a.pin").touch()
    before = files_in(tmp_path)

    asked = ("batch", "prune", tmp_path / "maps", "--max-size", "1.5MB")
    done = crgen(*asked, "--dry-run")
    lines = [line.removeprefix(f"{tmp_path}/maps/") for line in done.out.splitlines()]
    assert done.code == 0
    assert lines == [
        "a.tif: 1 MB, one of the oldest of too much: kept, pinned",
        "b.tif: 1 MB, one of the oldest of too much: would be removed",
        "c.tif: 1 MB, one of the oldest of too much: would be removed",
        "2 products, 2 MB would be removed",
    ]
    assert files_in(tmp_path) == before

    assert "2 products, 2 MB removed" in crgen(*asked).out
    assert set(files_in(tmp_path / "maps")) == {"a.json", "a.tif", "a.pin"}
    assert "0 products, 0 B removed" in crgen("batch", "prune", tmp_path / "maps", "--older-than", "36500d").out


def test_a_bad_request_says_what_to_write(crgen, tmp_path):
    for words, line in (
        ((), "say what is too old or too much: --older-than 90d, --max-size 200GB"),
        (("--older-than", "soon"), "--older-than: 'soon' is not a time"),
        (("--max-size", "2"), "'2' is no size"),
    ):
        done = crgen("batch", "prune", tmp_path, *words)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert line in done.err
    assert "is no folder" in crgen("batch", "prune", tmp_path / "nowhere", "--max-size", "1GB").err
