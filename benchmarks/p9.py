"""P9: derivatives of 24-megapixel photographs, against `vipsthumbnail` making the two larger ones."""

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyvips

from benchmarks.harness import Measure, Verdict, conclude, median, take_turns
from benchmarks.programs import workspace
from haulier.bounded.processor import BoundedProcessor
from haulier.core.processing import DISPLAY_SIDE, QUALITY, THUMBNAIL_SIDE, Derivatives

ROUNDS: Final = 5
PHOTOS: Final = 8
WIDTH: Final = 6000
BAR: Final = 1.5
AIM: Final = 1.1


def make_photo(path: Path, seed: int, width: int) -> None:
    """Write a JPEG that costs what a photograph does: clouds of every size, and a little noise."""
    height = width * 2 // 3

    def band(number: int) -> pyvips.Image:
        clouds = 128
        for cell in (width // 6, width // 20, width // 70, width // 300, width // 1000):
            size = max(cell, 2)
            layer = pyvips.Image.perlin(width, height, cell_size=size, seed=seed + number + cell)
            clouds += layer * (2.2 * size**0.6)
        return clouds

    noise = pyvips.Image.gaussnoise(width, height, mean=0, sigma=3, seed=seed)
    photo = band(1).bandjoin([band(2), band(3)]) + noise
    photo.cast("uchar").copy(interpretation="srgb").jpegsave(str(path), Q=90)


def children_of(work: Callable[[], None]) -> Measure:
    """Measure the CPU of child processes that end with the work."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measure(cpu_s, wall_s)


def haulier(photos: list[Path], directory: Path) -> Measure:
    """Make all three pictures of each, in one child; its start counts."""

    async def derive() -> None:
        display, thumbnail = directory / "display", directory / "thumbnail"
        async with BoundedProcessor(processes=1) as processor:
            for photo in photos:
                made = await processor.derive(photo, display=display, thumbnail=thumbnail)
                assert isinstance(made, Derivatives), made
                display.unlink()
                thumbnail.unlink()

    return children_of(lambda: asyncio.run(derive()))


def vipsthumbnail(photos: list[Path], directory: Path, suffix: str) -> Measure:
    """Make the two larger pictures of all, in one process a size, on one core as the child has it."""

    def run() -> None:
        for side in (DISPLAY_SIDE, THUMBNAIL_SIDE):
            output = str(directory / f"%s_{side}{suffix}")
            command = ["vipsthumbnail", "--size", f"{side}x{side}>", "-o", output, *map(str, photos)]
            subprocess.run(command, check=True, env={**os.environ, "VIPS_CONCURRENCY": "1"})

    return children_of(run)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--photos", type=int, default=PHOTOS)
    options.add_argument("--width", type=int, default=WIDTH)
    chosen = options.parse_args()
    with workspace() as directory:
        photos = [directory / f"photo{number}.jpg" for number in range(chosen.photos)]
        for number, photo in enumerate(photos):
            print(f"making photograph {number + 1} of {len(photos)}", file=sys.stderr)
            make_photo(photo, number * 1000, chosen.width)
        # The same pictures, and those that the program makes when it is not asked: cheaper ones, JPEG.
        found = take_turns(
            chosen.rounds,
            {
                "haulier": lambda: haulier(photos, directory),
                "vipsthumbnail to WebP": lambda: vipsthumbnail(photos, directory, f".webp[Q={QUALITY}]"),
                "vipsthumbnail to JPEG": lambda: vipsthumbnail(photos, directory, ".jpg"),
            },
        )
    cpu = {name: median(measures, "cpu_s") / chosen.photos for name, measures in found.items()}
    wall = {name: median(measures, "wall_s") / chosen.photos for name, measures in found.items()}
    peers = [name for name in cpu if name != "haulier"]
    version = subprocess.run(
        ["vipsthumbnail", "--version"], capture_output=True, text=True, check=True
    ).stdout
    return conclude(
        Verdict(
            id="P9",
            title=f"derivatives of a JPEG of {chosen.width}x{chosen.width * 2 // 3}: display, thumbnail, placeholder",
            ratio=cpu["haulier"] / min(cpu[name] for name in peers),
            bar=BAR,
            aim=AIM,
            columns=("program", "CPU s a photo", "wall s a photo", "CPU, haulier = 1"),
            rows=tuple((name, cpu[name], wall[name], cpu[name] / cpu["haulier"]) for name in cpu),
            notes=f"The ratio is against the cheaper peer, which makes no placeholder. Peer: {version.strip()}; "
            f"libvips of haulier: {'.'.join(str(pyvips.version(part)) for part in range(3))}.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
