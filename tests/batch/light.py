"""What schedulers of the tests import: makes the picture of a job's product a single pixel.

Drawing it is half of the work of a product this small. Where ``PUBLISHED`` names a file, every product that was
published is noted there; the process that makes a product of the job ``POISONED`` dies.
"""

import base64
import os
import signal
from pathlib import Path

import crgen.pipeline.fill as fill
from crgen.files import partial_name, publish

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")


def picture(scene, paths, inputs, tally, error, learned) -> Path:
    if paths.folder.name == os.environ.get("POISONED"):
        os.kill(os.getpid(), signal.SIGKILL)
    hidden = partial_name(paths.quicklook)
    hidden.write_bytes(PIXEL)
    return hidden


def noted(finished) -> None:
    finished = list(finished)
    publish(finished)
    if "PUBLISHED" in os.environ:
        with Path(os.environ["PUBLISHED"]).open("a") as file:
            file.write(f"{finished[-1][1]}\n")


fill.picture = picture
fill.publish = noted
