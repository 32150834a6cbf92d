"""What schedulers of the tests import: makes the picture of a job's product a single pixel, and its page empty.

Drawing them is half of the work of a product this small. Where ``PUBLISHED`` names a file, every product that was
published is noted there; the process that makes a product of the job ``POISONED`` dies, and that of the job ``UNTIDY``
right after it published its product.
"""

import base64
import os
import signal
from pathlib import Path

import crgen.pipeline.fill as fill
from crgen.files import partial_name, publish

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")


def picture(scene, paths, *_) -> Path:
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
    if finished[-1][1].parent.name == os.environ.get("UNTIDY"):
        os.kill(os.getpid(), signal.SIGKILL)


def page(scene, paths, *_) -> Path:
    hidden = partial_name(paths.page)
    hidden.write_text("<!doctype html>")
    return hidden


fill.picture = picture
fill.write_product_page = page
fill.publish = noted
