"""Put what the other benchmarks left into the documents, between marks such as ``<!-- floods: begin -->``.

    python -m benchmarks.documents [OUT]

Speed (docs/speed.md) comes from benchmarks/results, where those benchmarks leave it, and from OUT/peers.md, where
`benchmarks.peers` left one. Accuracy (docs/accuracy.md) comes from OUT, where `benchmarks.floods`,
`benchmarks.floods.past`, `benchmarks.floods.calibration`, `benchmarks.ordinary.intervals`, `benchmarks.ordinary` and
`benchmarks.ordinary.believing` left floods.md, floods_past.md, calibration.md, intervals.md, ordinary.md and
believing.md; what is not there stays as it is. The sentences around the tables are a person's: read them again.
"""

import json
import sys
from pathlib import Path

from benchmarks.common import RESULTS, markdown

DOCS = Path(__file__).parents[1] / "docs"
SPEED = ("generator", "throughput", "cog", "simulated_gpu", "size")
ACCURACY = ("floods", "floods_past", "calibration", "intervals", "ordinary", "believing")


def speed(results: Path) -> str:
    """Return the tables of speed as Markdown, of every result there is."""
    parts = []
    for name in SPEED:
        path = results / f"{name}.json"
        if not path.exists():
            continue
        held = json.loads(path.read_text())
        parts.append(f"`{held['command']}` on {held['machine']}:\n\n{markdown(held['header'], held['rows'])}")
        if "plan" in held:
            parts.append("40,000 × 40,000 px, from these rates:\n\n" + "\n".join(f"- {line}" for line in held["plan"]))
    return "\n\n".join(parts)


def put(page: Path, mark: str, tables: str) -> None:
    """Replace what stands between the marks of a page.

    Raises:
        SystemExit: if the page has no such marks.
    """
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    text = page.read_text()
    if begin not in text or end not in text:
        raise SystemExit(f"{page} has no {begin} … {end}")
    before, rest = text.split(begin, 1)
    page.write_text(f"{before}{begin}\n{tables.strip()}\n{end}{rest.split(end, 1)[1]}")
    print(f"{page}: {mark}")


def main(out: Path | None, docs: Path = DOCS, results: Path = RESULTS) -> None:
    """Replace the tables of which there are new ones."""
    if tables := speed(results):
        put(docs / "speed.md", "speed", tables)
    for name in (*ACCURACY, "peers") if out else ():
        assert out
        if (found := out / f"{name}.md").exists():
            put(docs / ("speed.md" if name == "peers" else "accuracy.md"), name, found.read_text())


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
