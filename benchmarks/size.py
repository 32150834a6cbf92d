"""Large areas: is memory flat, is time linear, is the file what it should be?

    python benchmarks/size.py [SIDE …] [--dtype float32]     (default 5000 10000 20000 px)

Two STAND-INS make the size affordable: in the generator's place one that smooths S2 of t1 over 3 × 3 pixels, and in the
demo scene's place a block of it, 1024 × 1024 px, repeated without end (the scene itself takes 4 CPU seconds per million
pixels). Everything else is the real run: windows of 256 px, chunks of 2048, parts, overviews, COG. The files of the
largest size are checked: strict validation, classic or BigTIFF, `crgen verify`, pixels of some places against a run of
those places alone. What follows for 40,000² px is computed from the rates measured here and by the shipped generator.
"""

import datetime
import json
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from common import DAYS, Timed, apart, cpu_seconds, peak_mb, report, square, watched

CHUNK = 2048


def stand_in():
    """Return a model that costs almost nothing, named as what it is."""
    import torch

    from crgen.model.generator import Generator, Prediction
    from crgen.model.weights import load_model

    real = load_model()

    class StandIn(Generator):
        def generate(self, s1_t1, s2_t1, s1_t2, s2_t2, **more):
            known = torch.where(torch.isfinite(s2_t1), s2_t1, 0.1)
            smooth = torch.nn.functional.avg_pool2d(known, 3, 1, 1)
            return Prediction(smooth, variance=0.01 * smooth, water=smooth[:, :2].clamp(0, 1))

    card = real.card.model_copy(update={"name": "stand-in", "trained_on": "nothing: a stand-in for benchmarks"})
    return real._replace(generator=StandIn(card.config), card=card)


class Repeated:
    """A block of pixels repeated without end, seen from ``corner``; what dask takes for a large array."""

    def __init__(self, block, corner: tuple[int, int], shape: tuple[int, int]) -> None:
        self.block, self.corner = block, corner
        self.shape, self.dtype, self.ndim = (*block.shape[:-2], *shape), block.dtype, block.ndim

    def __getitem__(self, at):
        import numpy as np

        *leading, rows, cols = at
        places = [
            (np.arange(*cut.indices(length)) + first) % side
            for cut, length, first, side in zip(
                (rows, cols), self.shape[-2:], self.corner, self.block.shape[-2:], strict=True
            )
        ]
        return self.block[..., places[0][:, None], places[1]][tuple(leading)]


@cache
def one_block(t1, t2, pols, bands):
    """Return a block of the demo scene."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from crgen.pipeline.source.demo import open_demo

    grid = GeoBox((1024, 1024), Affine(10, 0, 730_000, 0, -10, 3_850_000), "EPSG:32649")
    return open_demo(grid, t1, t2, pols=pols, bands=bands).compute()


def repeated_demo(geobox, t1, t2, *, pols, bands):
    """Stand in for the demo scene: a block of it, placed by the CRS, so that a place looks the same in any run."""
    import dask.array as da

    from crgen.pipeline.box import lattice_box
    from crgen.pipeline.source.stack import build_stack

    box, side = lattice_box(geobox), 1024
    block = one_block(t1, t2, pols, bands)
    corner = box.r0 % side, box.c0 % side
    variables = {
        str(name): da.from_array(
            Repeated(held.values, corner, box.shape), chunks=(*held.shape[:-2], side, side), asarray=False, name=False
        )
        for name, held in block.data_vars.items()
    }
    manifest = {"source": "demo, a block of it repeated", "t1": t1.isoformat(), "t2": t2.isoformat()}
    return build_stack(geobox, variables, pols=pols, bands=bands, manifest=manifest)


def request_for(aoi: Path, out: Path, dtype: str, **more):
    from crgen.pipeline.request import FillRequest

    t1, t2 = (datetime.date.fromisoformat(day) for day in DAYS)
    more = {"chunk": CHUNK, "crs": "EPSG:32649", **more}
    return FillRequest(aoi=str(aoi), t1=t1, t2=t2, source="demo", out=out, dtype=dtype, generate_all=True, **more)


def one(side: int, dtype: str, check: bool) -> None:
    """Measure one size; prints JSON."""
    from rio_cogeo.cogeo import cog_validate

    import crgen.pipeline.fill as fill
    import crgen.pipeline.run.plan as plan
    import crgen.pipeline.source.open as sources
    from crgen.pipeline.run.make_parts import Workshop
    from crgen.pipeline.tiling.chunk import Run
    from crgen.pipeline.tiling.predict import Predictor
    from crgen.pipeline.verify import verify

    model, timed = stand_in(), Timed()
    plan.load_model = lambda *_: model
    sources.open_demo = repeated_demo
    Predictor.predict = timed("stand-in", Predictor.predict)
    Run.prepare = timed("read", Run.prepare)
    Workshop.finish = timed("encode", Workshop.finish)
    Workshop.make_parts = timed("chunks", Workshop.make_parts)
    fill.splice = timed("assemble", fill.splice)
    with tempfile.TemporaryDirectory() as name, watched() as samples:
        folder, start = Path(name), time.perf_counter()
        result = fill.run(request_for(square(side, folder), folder / "out.tif", dtype))
        seconds, cpu = time.perf_counter() - start, cpu_seconds()
        row = {
            "pixels": result.tally.inside,
            "windows": result.tally.windows,
            "seconds": seconds,
            "cpu": cpu,
            "stages": timed.seconds,
            "peak": peak_mb(),
            "held": [max((mb for s, mb in samples if s <= share * seconds), default=0) for share in (0.25, 0.5, 1)],
            "bytes": result.paths.reflectance.stat().st_size,
        }
        if check:
            header = result.paths.reflectance.open("rb").read(4)
            row["format"] = {42: "classic", 43: "BigTIFF"}[header[2]]
            row["valid"] = all(cog_validate(str(p), strict=True)[0] for p in result.paths.all[:2])
            row["whole"] = not any(checked.problems for checked in verify(result.paths.reflectance))
            row["same"] = all(_same(result, side, at, folder, dtype) for at in ((0.1, 0.1), (0.5, 0.7), (0.99, 0.99)))
    print(json.dumps(row))


def _same(result, side: int, at: tuple[float, float], folder: Path, dtype: str) -> bool:
    """Whether a small run of one place has the large run's pixels."""
    import numpy as np
    from pyproj import Transformer

    import crgen.pipeline.fill as fill

    data = result.reflectance
    row, col = (min(max(int(share * side) - 100, 0), side - 200) for share in at)
    part = data.isel(y=slice(row, row + 200), x=slice(col, col + 200))
    to_lonlat = Transformer.from_crs("EPSG:32649", "EPSG:4326", always_xy=True)
    x, y = (part.x.values[[60, 140]], part.y.values[[140, 60]])
    (west, east), (south, north) = to_lonlat.transform(x, y)
    again = fill.run(
        request_for(f"{west},{south},{east},{north}", folder / f"place_{row}.tif", dtype, chunk=512, overwrite=True)
    ).reflectance
    large = data.sel(x=again.x, y=again.y, method="nearest")
    return bool(np.array_equal(large.values, again.values))


def bare_rate() -> float:
    """Return windows per second of the shipped generator on this machine, as a run computes them."""
    from crgen.model.device import pick_precision
    from crgen.model.weights import load_model
    from crgen.pipeline.run.plan import measure
    from crgen.pipeline.source.channels import bands_made, channels_of
    from crgen.pipeline.tiling.predict import Predictor

    model = load_model()
    opened, made = channels_of("base", None).bands, bands_made(None, model.card.config)
    precision = pick_precision("auto", model.generator, model.card.window).name
    return measure(Predictor(model, "cpu", opened, made, precision=precision), rounds=8)


def main(sides: list[int], dtype: str) -> None:
    rows, measured = [], []
    for side in sides:
        row = apart(__file__, side, dtype, int(side == max(sides)))
        measured.append(row)
        held = " / ".join(f"{mb / 1e3:.2f}" for mb in row["held"])
        mega = row["pixels"] / 1e6
        rows.append(
            (
                f"{side} × {side} px, stand-in for the generator",
                f"{row['seconds']:.0f}",
                f"{row['seconds'] / mega:.3f}",
                f"{row['cpu'] / mega:.2f}",
                held,
                f"{row['stages']['assemble']:.1f}",
                f"{row['bytes'] / 1e9:.2f}",
            )
        )
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
    header = (
        "a block of the demo scene, repeated",
        "s in all",
        "s per million pixels",
        "CPU s per million pixels",
        "most memory in a quarter / half / all of the time, GB",
        "s to assemble",
        "file, GB",
    )
    last = measured[-1]
    rate = bare_rate()
    plan = plan_for(40_000, last, rate)
    report(
        "size", header, rows, {"checks": {k: last.get(k) for k in ("format", "valid", "whole", "same")}, "plan": plan}
    )
    print(
        f"\nThe largest file: {last['format']}, strictly valid: {last['valid']}, verified whole: {last['whole']}, "
        f"pixels equal to runs of places alone: {last['same']}."
    )
    print("\nPlan for 40,000 × 40,000 px from these rates:\n" + "\n".join(f"- {line}" for line in plan))


def plan_for(side: int, row: dict, rate: float) -> list[str]:
    """Say what a larger area would take, from what was measured."""
    pixels = side * side
    windows = (side // 128 + 1) ** 2
    mega, stages = pixels / 1e6, row["stages"]
    per_mega = {name: stages[name] / (row["pixels"] / 1e6) for name in stages}
    codec = per_mega["read"] + per_mega["encode"]
    size = row["bytes"] / row["pixels"] * pixels
    return [
        f"{windows:,} windows of 256² px: {windows / rate / 3600:.1f} h of the shipped generator on this machine at "
        f"{rate:.1f} windows/s, {windows / 1000 / 60:.1f} min at 1,000 windows/s",
        f"reading and encoding: {mega * codec / 3600:.2f} thread-hours "
        f"({per_mega['read']:.2f} + {per_mega['encode']:.2f} thread-seconds per million pixels)",
        f"to keep pace with 1,000 windows/s: {mega * codec / (windows / 1000):.0f} threads for this source",
        f"assembling: {mega * per_mega['assemble']:.0f} s after the last pixel",
        f"file about {size / 1e9:.1f} GB ({'BigTIFF' if size > 2**32 else 'classic'}), scratch about twice that; "
        f"memory as measured here, {row['peak'] / 1e3:.1f} GB: it does not grow with the area",
    ]


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["--one"]:
        one(int(words[1]), words[2], words[3] == "1")
    else:
        kind = words.pop(words.index("--dtype") + 1) if "--dtype" in words else "uint16"
        main([int(w) for w in words if w != "--dtype"] or [5000, 10_000, 20_000], kind)
