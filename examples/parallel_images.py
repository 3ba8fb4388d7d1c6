"""A flow for each pair of image and filter, many at once: load, apply the filter, save.

``FanOut`` runs the flow once for each pair, at first one after another and then eight at once.
Pillow works outside of Python's lock, so that threads share the processors. The image goes from
node to node as the bytes of a PNG file, which could be stored: with a ``db_path`` a crash would
repeat no image that was finished. What only the nodes of one branch hand to each other is
``private`` to it, and not merged.

Run it with ``python examples/parallel_images.py [FOLDER]``; it needs Pillow. The folder is one of
PNG files; without one it draws three. The results are in its folder ``filtered``.
"""

import sys
from collections.abc import Callable
from io import BytesIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFilter
from pydantic import BaseModel

from pocoflow import FanOut, Flow, fields, node

SEPIA = (0.393, 0.769, 0.189, 0, 0.349, 0.686, 0.168, 0, 0.272, 0.534, 0.131, 0)
FILTERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blur": lambda image: image.filter(ImageFilter.BLUR),
    "grayscale": lambda image: image.convert("L"),
    "sepia": lambda image: image.convert("RGB", SEPIA),
}


class Job(NamedTuple):
    """What one branch does."""

    path: Path
    filter: str


class Album(BaseModel):
    """The folder, the jobs, and what a branch works on."""

    folder: Path
    jobs: list[Job] = []
    job: Job
    image: bytes
    filtered: bytes


A = fields(Album)


@node(writes=A.jobs)
def list_jobs(folder: Path) -> list[Job]:
    (folder / "filtered").mkdir(exist_ok=True)
    return [Job(*pair) for pair in product(sorted(folder.glob("*.png")), FILTERS)]


@node(writes=A.image)
def load(job: Job) -> bytes:
    return job.path.read_bytes()


@node(writes=A.filtered)
def apply_filter(image: bytes, job: Job) -> bytes:
    with Image.open(BytesIO(image)) as opened, BytesIO() as file:
        FILTERS[job.filter](opened.convert("RGB")).save(file, "PNG")
        return file.getvalue()


@node
def save(filtered: bytes, job: Job) -> None:
    (job.path.parent / "filtered" / f"{job.path.stem}_{job.filter}.png").write_bytes(filtered)


one_image = Flow(load, flow_name="image", schema=Album)
one_image.then(load, apply_filter).then(apply_filter, save)


def album(concurrency: int) -> Flow[Album]:
    scratch = (A.image, A.filtered)
    images = FanOut(one_image, each=A.jobs, as_=A.job, concurrency=concurrency, private=scratch)
    return Flow(list_jobs, flow_name="album", schema=Album).then(list_jobs, images)


flow = album(concurrency=8)


def draw_images(folder: Path) -> Path:
    for number, colour in enumerate(("crimson", "seagreen", "royalblue")):
        image = Image.linear_gradient("L").resize((600, 400)).convert("RGB")
        ImageDraw.Draw(image).ellipse((100 * number, 50, 100 * number + 300, 350), fill=colour)
        image.save(folder / f"{colour}.png")
    return folder


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else draw_images(Path(made))
        for at_once in (1, 8):
            begun = perf_counter()
            jobs = album(at_once).run({"folder": folder}).state.jobs
            print(f"{len(jobs)} images, {at_once} at once: {perf_counter() - begun:.2f} s")
        for path in sorted((folder / "filtered").iterdir()):
            print(path.name)
