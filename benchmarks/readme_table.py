"""Make the README's performance section from what the other benchmarks left in benchmarks/results.

python benchmarks/readme_table.py            prints it
python benchmarks/readme_table.py --write    puts it between the README's <!-- performance --> marks
"""

import json
import sys
from pathlib import Path

from common import RESULTS, markdown

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- performance: begin -->", "<!-- performance: end -->"
ORDER = ("generator", "throughput", "cog", "simulated_gpu", "size")


def section() -> str:
    """Return the Markdown of every result there is."""
    parts = []
    for name in ORDER:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        held = json.loads(path.read_text())
        parts.append(f"`{held['command']}` on {held['machine']}:\n\n{markdown(held['header'], held['rows'])}")
        if "plan" in held:
            parts.append("40,000 × 40,000 px, from these rates:\n\n" + "\n".join(f"- {line}" for line in held["plan"]))
    return "\n\n".join(parts)


def main(write: bool) -> None:
    text = section()
    if not write:
        print(text)
        return
    readme = README.read_text()
    if BEGIN not in readme or END not in readme:
        sys.exit(f"{README} has no {BEGIN} … {END}")
    before, rest = readme.split(BEGIN, 1)
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main("--write" in sys.argv[1:])
