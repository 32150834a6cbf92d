"""`crgen verify` on the command line."""

from tests.products import item_first


def test_verify_prints_a_line_a_file_and_leaves_with_6_when_one_is_damaged(crgen, fill, here):
    assert crgen(*fill, "--out", "map.tif").code == 0
    names = item_first("map")
    assert crgen("verify", "map.tif") == (0, "".join(f"{name}: whole\n" for name in names), "")
    content = (here / "map.tif").read_bytes()
    (here / "map.tif").write_bytes(content[:-1])
    (here / "map.png").unlink()
    outcome = crgen("verify", "map.json")
    assert outcome.code == 6
    assert outcome.out == "".join(f"{name}: whole\n" for name in names if name not in ("map.tif", "map.png"))
    lines = outcome.err.splitlines()
    assert lines[0].startswith("error: map.tif: cut off: ")
    assert lines[-1] == "error: map.png: missing"


def test_verify_needs_a_product(refused, here):
    assert "give a product that crgen made" in refused(6, "verify", "nothing.tif")
