"""Run `crgen fill` on the real stacks of examples/real_stacks.py and score them beside copying S2 at t1.

    python benchmarks/real_scenes.py ../shared/data OUT

Prints a Markdown table; leaves the stacks and the products, with their pictures, in OUT.
"""

import importlib.util
import sys
from pathlib import Path

import crgen
from crgen.pipeline.tiling.quality import GENERATED_CLASSES

REPOSITORY = Path(__file__).parents[1]


def main(data: Path, out: Path) -> None:
    spec = importlib.util.spec_from_file_location("real_stacks", REPOSITORY / "examples" / "real_stacks.py")
    assert spec
    assert spec.loader
    real_stacks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real_stacks)
    print("| stack | pixels generated | RMSE generated | RMSE copy of t1 | PSNR generated | PSNR copy of t1 |")
    print("|---|---|---|---|---|---|")
    for name, make in real_stacks.PAIRS.items():
        stack = out / f"{name}.zarr"
        if not stack.exists():
            crgen.write_stack(make(data), stack)
        # BioMassters does not say the year of its months: any two days stand in.
        days = {"t1": "2020-01-01", "t2": "2020-12-31"} if name.startswith("finland") else {}
        result = crgen.fill(source=str(stack), out=out / f"{name}.tif", overwrite=True, **days)
        if result.error is None:
            print(f"| {name} | no truth: {result.tally.made} pixels made | | | | |")
            continue
        made, copied = result.error["generated"], result.error["copy of t1"]
        generated = sum(result.tally.pixels[quality] for quality in GENERATED_CLASSES)
        print(
            f"| {name} | {generated} | {made['RMSE']:.4f} | {copied['RMSE']:.4f} "
            f"| {made['PSNR']:.2f} | {copied['PSNR']:.2f} |"
        )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
