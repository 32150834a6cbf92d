"""A COG appears whole or not at all."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from crgen.errors import OutputError
from crgen.files import discard
from crgen.pipeline.cog.splice import splice
from crgen.pipeline.cog.tiles import EncodedBlock, tile_name
from tests.pipeline.cog.rasters import blocks_of, dn_image, reflectance_profile, write_cog


def test_target_is_untouched_until_published(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("an older product")
    profile = reflectance_profile((9, 9))
    splice(path, profile, blocks_of(profile, dn_image((9, 9)), 1024))
    assert path.read_text() == "an older product"
    discard([path])
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_leftovers_of_a_killed_run_do_not_stay(tmp_path):
    (tmp_path / ".a.tif.partial").write_text("half a file")
    write_cog(tmp_path / "a.tif", reflectance_profile((9, 9)), dn_image((9, 9)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_damage_between_writing_and_publishing_is_found(tmp_path):
    profile = reflectance_profile((64, 2100))
    last = blocks_of(profile, dn_image((64, 2100)), 1024)

    class Damaging(EncodedBlock):
        """Its tile comes when most of the file is written; then a byte of the file flips."""

        def read(self, name):
            if name == tile_name(0, 0, 2):
                with (tmp_path / ".a.tif.partial").open("r+b") as file:
                    file.seek(2000)
                    byte = file.read(1)
                    file.seek(2000)
                    file.write(bytes([byte[0] ^ 1]))
            return super().read(name)

    blocks = [*last[:-2], *(Damaging(b.row, b.col, b.shape, b.moments, b.members) for b in last[-2:-1]), last[-1]]
    with pytest.raises(OutputError, match="does not read back as written"):
        splice(tmp_path / "a.tif", profile, blocks)
    assert not list(tmp_path.iterdir())


def test_a_target_below_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*a\.tif: (Not a directory|File exists)") as caught:
        write_cog(tmp_path / "file" / "a.tif", reflectance_profile((9, 9)), dn_image((9, 9)))
    assert "\n" not in str(caught.value)


WRITE_UNDER_PRESSURE = """
    import json, sys
    from pathlib import Path
    import numpy as np
    from tests.pipeline.cog.rasters import dn_image, reflectance_profile, write_cog
    from crgen.errors import OutputError

    def attempt(folder):
        '''Outcome of a write: what was said, what was left, and whether the pixels are right.'''
        import rasterio
        image = dn_image((1100, 1100))
        said = ""
        try:
            write_cog(folder / "a.tif", reflectance_profile((1100, 1100)), image)
        except OutputError as error:
            said = str(error)
        left = sorted(p.name for p in folder.rglob("*") if p.is_file())
        right = False
        if left == ["a.tif"]:
            with rasterio.open(folder / "a.tif") as cog:
                right = bool((cog.read() == image).all()) and cog.overviews(1) == [2, 4]
        return {"said": said, "left": left, "right": right}
"""


def outcomes_under_pressure(script, tmp_path, prefix=()):
    code = textwrap.dedent(WRITE_UNDER_PRESSURE) + textwrap.dedent(script)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode and prefix:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_all_or_nothing(outcomes):
    failures = [o for o in outcomes if o["said"]]
    successes = [o for o in outcomes if not o["said"]]
    assert failures
    assert successes
    for outcome in failures:
        assert outcome["left"] == []
        assert "a.tif" in outcome["said"]
        assert "free" in outcome["said"]
        assert "\n" not in outcome["said"]
    assert all(outcome["right"] for outcome in successes)


def test_a_file_size_limit_anywhere_in_the_write_ends_in_one_line_and_no_file(tmp_path):
    outcomes = outcomes_under_pressure(
        """
        import resource
        limits = [100_000, 1_000_000, 3_000_000, 6_000_000, 7_000_000, 8_300_000, 9_000_000, 20_000_000]
        for limit in limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            folder = Path(sys.argv[1]) / str(limit)
            folder.mkdir()
            print(json.dumps(attempt(folder)))
        """,
        tmp_path,
    )
    check_all_or_nothing(outcomes)


def test_a_full_disk_anywhere_in_the_write_ends_in_one_line_and_no_file(tmp_path):
    outcomes = outcomes_under_pressure(
        """
        import subprocess
        folder = Path(sys.argv[1])
        for size in [1_000, 4_000, 6_500, 7_500, 9_000, 12_000, 15_000, 16_000, 17_000, 18_000, 40_000]:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder], check=True)
            print(json.dumps(attempt(folder)))
            subprocess.run(["umount", folder], check=True)
        """,
        tmp_path,
        prefix=("unshare", "--user", "--map-root-user", "--mount"),
    )
    check_all_or_nothing(outcomes)
