"""Make the pictures of the documents anew, and what the demo prints, with the weights as they are.

    python docs/pictures/make.py [DATA]

DATA is the folder of real imagery (default ../shared/data; without it the real scene stays as it is). The real scene is
chip 288afc34 of BioMassters (CC BY 4.0, contains modified Copernicus Sentinel data), March to July: days that the
training of `base` held out, of a place that it knew.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import crgen

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEMO = "--source demo --aoi examples/zhengzhou.geojson --t1 2021-07-10 --t2 2021-07-22 --out"
SIZE = 1400
"""Width in pixels."""


def keep(picture: Path, name: str) -> None:
    """Write a picture small."""
    with Image.open(picture) as image:
        small = image.convert("RGB").resize((SIZE, round(image.height * SIZE / image.width)), Image.Resampling.LANCZOS)
        small.save(HERE / f"{name}.webp", quality=80, method=6)


def demo(folder: Path) -> None:
    """Make the demo's picture, and what `crgen fill` prints but for the paths."""
    command = [str(Path(sys.executable).with_name("crgen")), "fill", *DEMO.split(), str(folder / "zhengzhou.tif")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    notes = [line for line in done.stderr.splitlines() if line.startswith("note:")]
    told = [line for line in done.stdout.splitlines() if not line.startswith(str(folder))]
    (HERE / "demo.txt").write_text("\n".join([*notes, *told]) + "\n")
    keep(folder / "zhengzhou.png", "demo")


def finland(folder: Path, data: Path) -> None:
    """Make the real scene's picture."""
    sys.path.insert(0, str(ROOT / "examples"))
    from real_stacks import biomassters

    stack = crgen.write_stack(biomassters(data, chip="288afc34", m1=6, m2=10), folder / "finland.zarr")
    # BioMassters does not tell the year of its months: the first days of those of 2021 stand in.
    crgen.fill(source=str(stack), t1="2021-03-01", t2="2021-07-01", out=folder / "finland.tif")
    keep(folder / "finland.png", "finland")


def main(data: Path) -> None:
    """Make all of them."""
    with tempfile.TemporaryDirectory() as name:
        demo(Path(name))
        if (data / "biomassters").is_dir():
            finland(Path(name), data)
        else:
            print(f"{data / 'biomassters'} is not there: the real scene stays as it is")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT.parent / "shared" / "data")
