"""A run can be killed at any moment; run again, it ends with the same bytes and computes nothing twice."""

import json
import os
import random
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import crgen
from crgen.errors import OutputError, StackError
from crgen.pipeline.fill import run
from crgen.pipeline.request import FillRequest, parse_date
from crgen.pipeline.run.plan import lay_out
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.tiling.lending import cells
from tests.demo import draw_once
from tests.light import draw_lightly
from tests.processes import ctx

pytestmark = pytest.mark.usefixtures("drawn_lightly")

AOI = "113.525,34.705,113.540,34.717"
"""Much of it was seen at t2, so that blocks of it are hidden and looked at too."""
T1, T2 = "2021-07-10", "2021-07-22"


def request_for(folder: Path, weights: Path, **more) -> FillRequest:
    more = {"aoi": AOI, "source": "demo", "chunk": 64, **more}
    return FillRequest(
        t1=parse_date(T1, "t1"), t2=parse_date(T2, "t2"), out=folder / "map.tif", weights=str(weights), **more
    )


def run_and_die(request: FillRequest, at: int, after: bool) -> None:
    """Fill, and be killed at the ``at``-th step that the disk would notice, just before or just after it."""
    steps = 0

    def deadly(function):
        def call(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if steps == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    draw_lightly()
    draw_once()
    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
    run(request)


def kill(request: FillRequest, at: int, after: bool) -> bool:
    """Run in a process of its own; return whether it was killed before it was done."""
    child = ctx.Process(target=run_and_die, args=(request, at, after))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def product_in(folder: Path) -> dict[str, object]:
    """The product's files by name; of the item, all but when it was made."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    item = json.loads(files.pop("map.json"))
    del item["properties"]["created"], item["properties"]["crgen:sha256"]
    return files | {"item": item}


def windows_of(request: FillRequest) -> dict[str, int]:
    """Windows by the name of the part of their chunk."""
    return {f"{c.row}_{c.col}.part": len(c.windows) for c in lay_out(request).grid}


def looked_at(request: FillRequest) -> dict[str, int]:
    """Windows that are looked at before any is computed, by the name of what their chunk tells."""
    return {f"{c.row}_{c.col}.evidence": len(cells(c, 64)) for c in lay_out(request).grid}


@pytest.fixture(scope="module")
def undisturbed(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patched:
        draw_lightly(patched.setattr)
        assert run(request_for(folder, tiny_weights)).check["checked"]
    return product_in(folder)


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@example(kills=[(139, False), (1, False)], workers=1)
@given(
    kills=st.lists(st.tuples(st.integers(1, 160), st.booleans()), min_size=1, max_size=2),
    workers=st.integers(1, 3),
)
def test_killed_at_any_moment_it_ends_with_the_same_bytes_and_finished_chunks_are_not_computed_again(
    tiny_weights, undisturbed, kills, workers
):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = request_for(folder, tiny_weights, workers=workers)
        for at, after in kills:
            if not kill(request, at, after):
                assert product_in(folder) == undisturbed  # it was done before the moment came
                return
            if (folder / "map.json").exists() and not (folder / ".map.tif.scratch" / "run.json").exists():
                assert product_in(folder) == undisturbed  # it was only tidying up
                with pytest.raises(OutputError, match="exists already"):
                    run(request)
                return
        parts = {path.name for path in folder.glob(".map.tif.scratch/*.part")}
        known = {path.name for path in folder.glob(".map.tif.scratch/*.evidence")}
        computed = []
        result = run(request, lambda done, total: computed.append(done))
        sizes = windows_of(request)
        assert result.resumed == len(parts)
        windows = sum(n for name, n in sizes.items() if name not in parts)
        looks = sum(n for name, n in looked_at(request).items() if name not in known)
        assert sum(computed) == windows + (looks if windows else 0), "what chunks tell is found out once"
        assert product_in(folder) == undisturbed
        assert result.tally.windows <= sum(sizes.values())


@pytest.fixture(scope="module")
def killed(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that was killed on the way."""
    folder = tmp_path_factory.mktemp("killed")
    assert kill(request_for(folder, tiny_weights), 66, True)
    return folder


@pytest.fixture
def left(killed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(killed, tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize("ending", ["part", "spills", "inputs"])
def test_a_damaged_part_is_made_again(tiny_weights, undisturbed, left, ending):
    request = request_for(left, tiny_weights)
    held = sorted(left.glob(".map.tif.scratch/*.part"))
    assert len(held) >= 2
    damaged = held[0].with_suffix(f".{ending}")
    content = bytearray(damaged.read_bytes())
    content[random.Random(0).randrange(len(content) // 4, len(content) // 2)] ^= 8
    damaged.write_bytes(content)
    assert run(request).resumed == len(held) - 1
    assert product_in(left) == undisturbed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clear_threshold": 0.7}, "other settings: clear_threshold was 0.6, now it is 0.7"),
        ({"chunk": 128}, "other settings: chunk was 64, now it is 128"),
        ({"dtype": "float32"}, "other settings: dtype was uint16, now it is float32"),
        ({"precision": "float16"}, r"other settings: precision was \w+, now it is float16"),
        ({"aoi": "113.525,34.705,113.540,34.718"}, "another area"),
    ],
)
def test_another_request_is_refused_and_says_which_until_restarted(tiny_weights, left, change, says):
    before = {path.name for path in left.rglob("*")}
    with pytest.raises(OutputError, match=rf"holds an unfinished run of map.tif with {says}; .*--restart") as caught:
        run(request_for(left, tiny_weights, **change))
    assert "\n" not in str(caught.value)
    assert {path.name for path in left.rglob("*")} == before
    if "aoi" in change:
        assert run(request_for(left, tiny_weights, **change, restart=True)).resumed == 0


def test_other_weights_and_changed_inputs_are_refused(tiny_weights, other_weights, tmp_path):
    days = (parse_date(T1, "t1"), parse_date(T2, "t2"))
    stack = open_demo(read_area(AOI).geobox, *days, pols=("VV",), bands=("B11", "B8", "B3"))
    crgen.write_stack(stack, tmp_path / "stack.zarr")
    (tmp_path / "out").mkdir()
    request = request_for(tmp_path / "out", tiny_weights, aoi=None, source=str(tmp_path / "stack.zarr"))
    assert kill(request, 47, True)
    with pytest.raises(OutputError, match="with other weights"):
        run(request_for(tmp_path / "out", other_weights, aoi=None, source=str(tmp_path / "stack.zarr")))
    array = max((tmp_path / "stack.zarr" / "s1_t2").rglob("*"), key=lambda path: path.stat().st_size)
    os.utime(array, (1, 1))
    with pytest.raises(OutputError, match="with other inputs"):
        run(request)
    assert run(request_for(tmp_path / "out", tiny_weights, aoi=None, source=request.source, restart=True)).resumed == 0


def test_what_nobody_can_finish_is_not_kept(tiny_weights, tmp_path):
    days = (parse_date(T1, "t1"), parse_date(T2, "t2"))
    stack = open_demo(read_area(AOI).geobox, *days, pols=("VV",), bands=("B11", "B8", "B3")).drop_vars("s2_t2")
    crgen.write_stack(stack.assign(s1_t2=stack["s1_t2"] * float("nan")), tmp_path / "blind.zarr")
    (tmp_path / "out").mkdir()
    with pytest.raises(StackError, match="no pixel could be made"):
        run(request_for(tmp_path / "out", tiny_weights, aoi=None, source=str(tmp_path / "blind.zarr")))
    assert not list((tmp_path / "out").iterdir())


def test_a_foreign_scratch_folder_is_no_run(tiny_weights, undisturbed, tmp_path):
    """One that an older version, or a kill in its first moment, left behind."""
    scratch = tmp_path / ".map.tif.scratch"
    scratch.mkdir()
    (scratch / "map.tif.scratch.tif").write_bytes(b"half")
    (scratch / "run.json").write_text("{")
    run(request_for(tmp_path, tiny_weights))
    assert product_in(tmp_path) == undisturbed
    shutil.rmtree(tmp_path)
