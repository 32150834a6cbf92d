"""What schedulers of the tests import: their jobs draw no picture and no page (:mod:`tests.light`).

Where ``PUBLISHED`` names a file, every product that was published is noted there; the process that makes a product of
the job ``POISONED`` dies, and that of the job ``UNTIDY`` right after it published its product.
"""

import os
import signal
from pathlib import Path

import crgen.pipeline.fill as fill
from crgen.files import publish
from tests.light import draw_lightly, picture


def deadly_picture(scene, paths, *rest) -> Path:
    if paths.folder.name == os.environ.get("POISONED"):
        os.kill(os.getpid(), signal.SIGKILL)
    return picture(scene, paths, *rest)


def noted(finished) -> None:
    finished = list(finished)
    publish(finished)
    if "PUBLISHED" in os.environ:
        with Path(os.environ["PUBLISHED"]).open("a") as file:
            file.write(f"{finished[-1][1]}\n")
    if finished[-1][1].parent.name == os.environ.get("UNTIDY"):
        os.kill(os.getpid(), signal.SIGKILL)


draw_lightly()
fill.picture = deadly_picture
fill.publish = noted
