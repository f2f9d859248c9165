"""Derivatives of real images, made in real children: every format, and every file that is not what it says."""

import base64
import random
import re
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
import pyvips

from haulier.bounded.limits import Limits
from haulier.bounded.processor import BoundedProcessor
from haulier.core.processing import (
    MAX_PLACEHOLDER_URL,
    Derivative,
    Derivatives,
    ProcessingFailure,
    Unprocessed,
)
from haulier.core.values import dataclass
from tests.support import pictures
from tests.support.pictures import BLUE, HEIGHT, RED, WIDTH, colour_at, is_near, picture, stored

MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "gif": "image/gif",
    "tif": "image/tiff",
    "heic": "image/heic",
}


@dataclass(frozen=True)
class Studio:
    """Makes derivatives of bytes and keeps the files."""

    processor: BoundedProcessor
    directory: Path

    @property
    def display(self) -> Path:
        return self.directory / "display"

    @property
    def thumbnail(self) -> Path:
        return self.directory / "thumbnail"

    async def derive(self, data: bytes, *, name: str = "original") -> Derivatives | Unprocessed:
        original = self.directory / name
        original.write_bytes(data)
        for left_over in (self.display, self.thumbnail):
            left_over.unlink(missing_ok=True)
        return await self.processor.derive(original, display=self.display, thumbnail=self.thumbnail)

    async def succeed(self, data: bytes) -> Derivatives:
        made = await self.derive(data)
        assert isinstance(made, Derivatives), made
        return made

    async def fail(self, data: bytes, *, name: str = "original") -> ProcessingFailure:
        outcome = await self.derive(data, name=name)
        assert isinstance(outcome, Unprocessed), outcome
        assert not self.display.exists()
        assert not self.thumbnail.exists()
        return outcome.failure


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async with BoundedProcessor(processes=1) as processor:
        yield Studio(processor, tmp_path)


def placeholder_of(made: Derivatives) -> bytes:
    return base64.b64decode(made.placeholder_url.removeprefix("data:image/webp;base64,"))


@pytest.mark.parametrize("kind", pictures.FORMATS)
async def test_every_format_gives_three_pictures(studio: Studio, kind: str) -> None:
    made = await studio.succeed(stored(kind))
    assert made.media_type == MEDIA_TYPES[kind]
    assert (made.source_width, made.source_height) == (WIDTH, HEIGHT)
    assert (made.placeholder.width, made.placeholder.height) == (32, 24)
    assert len(made.placeholder_url) <= MAX_PLACEHOLDER_URL
    display, thumbnail = studio.display.read_bytes(), studio.thumbnail.read_bytes()
    for data, told in (
        (display, made.display),
        (thumbnail, made.thumbnail),
        (placeholder_of(made), made.placeholder),
    ):
        assert data[:4] + data[8:12] == b"RIFFWEBP"
        assert len(data) == told.size
        assert is_near(colour_at(data, 0.2, 0.5), RED, tolerance=25)
        assert is_near(colour_at(data, 0.8, 0.5), BLUE, tolerance=25)


async def test_sides_are_2048_512_and_32_at_most_in_either_direction(studio: Studio) -> None:
    wide = await studio.succeed(stored("jpg", picture(6000, 4000)))
    assert (wide.source_width, wide.source_height) == (6000, 4000)
    assert [(each.width, each.height) for each in (wide.display, wide.thumbnail, wide.placeholder)] == [
        (2048, 1365),
        (512, 341),
        (32, 21),
    ]
    tall = await studio.succeed(stored("webp", picture(1500, 6000)))
    assert (tall.source_width, tall.source_height) == (1500, 6000)
    assert [(each.width, each.height) for each in (tall.display, tall.thumbnail, tall.placeholder)] == [
        (512, 2048),
        (128, 512),
        (8, 32),
    ]


async def test_nothing_is_enlarged(studio: Studio) -> None:
    made = await studio.succeed(stored("png", picture(20, 10)))
    for each in (made.display, made.thumbnail, made.placeholder):
        assert (each.width, each.height) == (20, 10)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5000, 1), (1, 5000)])
async def test_the_narrowest_pictures_keep_a_pixel(studio: Studio, width: int, height: int) -> None:
    made = await studio.succeed(stored("png", pictures.plain(RED, width, height)))
    assert min(made.placeholder.width, made.placeholder.height) == 1


@pytest.mark.parametrize("kind", ["jpg", "webp"])
@pytest.mark.parametrize("height", [1, 3, 7])
async def test_a_long_thin_picture_is_not_shrunk_away_by_its_decoder(
    studio: Studio, kind: str, height: int
) -> None:
    made = await studio.succeed(pictures.stored(kind, pictures.plain(pictures.RED, 16_000, height)))
    assert (made.source_width, made.source_height) == (16_000, height)
    assert (made.display.width, made.display.height) == (2048, 1)


@pytest.mark.parametrize("kind", pictures.ORIENTED)
@pytest.mark.parametrize(
    ("orientation", "red_at"),
    [(1, (0.2, 0.5)), (3, (0.8, 0.5)), (6, (0.5, 0.2)), (8, (0.5, 0.8)), (2, (0.8, 0.5)), (5, (0.5, 0.2))],
)
async def test_orientation_is_applied(
    studio: Studio, kind: str, orientation: int, red_at: tuple[float, float]
) -> None:
    made = await studio.succeed(
        stored(kind, pictures.with_metadata(picture(640, 480), orientation=orientation))
    )
    turned = orientation >= 5
    expected = (480, 640) if turned else (640, 480)
    assert (made.source_width, made.source_height) == expected
    assert (made.display.width, made.display.height) == expected
    assert is_near(colour_at(studio.display.read_bytes(), *red_at), RED, tolerance=20)


@pytest.mark.parametrize("kind", pictures.WITH_EXIF)
async def test_metadata_with_its_location_stays_behind(studio: Studio, kind: str) -> None:
    original = stored(kind, pictures.with_metadata(picture()))
    assert pictures.ARTIST in original
    made = await studio.succeed(original)
    for data in (studio.display.read_bytes(), studio.thumbnail.read_bytes(), placeholder_of(made)):
        assert pictures.ARTIST not in data
        fields = pyvips.Image.new_from_buffer(data, "").get_fields()
        kept = [name for name in fields if re.match("exif|xmp|iptc|icc|orientation", name)]
        assert kept == []


async def test_colours_of_a_profile_become_srgb(studio: Studio) -> None:
    wide = pictures.plain((200, 30, 30), 600, 400).icc_transform("p3", input_profile="srgb")
    assert tuple(wide(5, 5)) == (184, 50, 41)
    await studio.succeed(stored("jpg", wide))
    assert is_near(colour_at(studio.display.read_bytes(), 0.5, 0.5), (200, 30, 30), tolerance=4)


@pytest.mark.parametrize(
    ("space", "colour"), [(b"CMYK", RED), (b"GRAY", RED), (b"RGB ", (0, 255, 255, 0)), (b"RGB ", (90,))]
)
async def test_a_profile_for_other_colours_is_passed_over(
    studio: Studio, space: bytes, colour: tuple[int, ...]
) -> None:
    image = pictures.plain(colour, 300, 200)
    image = image.copy(interpretation={1: "b-w", 3: "srgb", 4: "cmyk"}[len(colour)])
    profile = {b"RGB ": "srgb", b"CMYK": "cmyk"}.get(space)
    data = pyvips.Operation.call("profile_load", profile) if profile else bytes(16) + space + bytes(200)
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", data)
    await studio.succeed(stored("tif", image))


async def test_a_profile_that_cannot_be_used_is_passed_over(studio: Studio) -> None:
    image = picture().copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", b"no profile at all" * 20)
    await studio.succeed(stored("tif", image))
    assert is_near(colour_at(studio.display.read_bytes(), 0.2, 0.5), RED)


async def test_ink_becomes_light(studio: Studio) -> None:
    ink = pictures.plain((0, 255, 255, 0), 300, 200).copy(interpretation="cmyk")
    await studio.succeed(stored("jpg", ink))
    red, green, blue = colour_at(studio.display.read_bytes(), 0.5, 0.5)
    assert red > 200
    assert green < 80
    assert blue < 80


@pytest.mark.parametrize("kind", ["png", "webp", "avif", "tif"])
async def test_transparency_is_kept(studio: Studio, kind: str) -> None:
    glass = picture(600, 400).bandjoin(128)
    await studio.succeed(stored(kind, glass))
    for path in (studio.display, studio.thumbnail):
        assert is_near(colour_at(path.read_bytes(), 0.2, 0.5), (*RED, 128))


async def test_grey_of_sixteen_bits_becomes_ordinary_colours(studio: Studio) -> None:
    grey = (pyvips.Image.black(300, 200) + 40000).cast("ushort").copy(interpretation="grey16")
    await studio.succeed(stored("png", grey))
    assert len(colour_at(studio.display.read_bytes(), 0.5, 0.5)) == 3


@pytest.mark.parametrize("kind", ["gif", "webp", "tif"])
async def test_the_first_frame_or_page_is_the_picture(studio: Studio, kind: str) -> None:
    frames = pictures.plain(RED, 60, 40).join(pictures.plain(BLUE, 60, 40), "vertical")
    frames = frames.copy(interpretation="srgb")
    frames.set_type(pyvips.GValue.gint_type, "page-height", 40)
    made = await studio.succeed(stored(kind, frames))
    assert (made.source_width, made.source_height) == (60, 40)
    assert is_near(colour_at(studio.display.read_bytes(), 0.5, 0.9), RED)


async def test_the_busiest_placeholder_is_short_enough(studio: Studio) -> None:
    noise = pyvips.Image.gaussnoise(32, 32, mean=128, sigma=90)
    busy = noise.bandjoin([noise.rot90(), noise.rot180(), noise.rot270()]).cast("uchar")
    made = await studio.succeed(stored("png", busy.copy(interpretation="srgb")))
    assert 1000 < len(made.placeholder_url) <= MAX_PLACEHOLDER_URL


# --- files that are not what they say -----------------------------------------------------------------


@pytest.mark.parametrize("kind", pictures.FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
async def test_a_cut_file_is_broken(studio: Studio, kind: str, share: float) -> None:
    image = pyvips.Image.gaussnoise(400, 300, mean=128, sigma=60).cast("uchar")
    data = stored(kind) if kind == "heic" else stored(kind, image.copy(interpretation="b-w"))
    assert await studio.fail(data[: int(share * len(data))]) is ProcessingFailure.IMAGE_BROKEN


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tif", "avif", "heic"])
async def test_a_head_that_announces_gigapixels_is_too_large_not_broken(studio: Studio, kind: str) -> None:
    data = pictures.huge(kind)
    assert len(data) < 2000
    assert await studio.fail(data) is ProcessingFailure.IMAGE_TOO_LARGE


async def test_a_bomb_of_ones_is_too_large(studio: Studio) -> None:
    bomb = pictures.png(60000, 60000)
    assert len(bomb) < 3_000_000
    assert await studio.fail(bomb) is ProcessingFailure.IMAGE_TOO_LARGE


async def test_what_needs_more_memory_than_a_child_has_is_too_large(tmp_path: Path) -> None:
    # Interlaced: its last rows complete its first ones, so all of it must be in memory.
    bomb = pictures.png(12000, 12000, depth=8, colour=2, interlaced=False)
    bomb = bomb.replace(bomb[:33], pictures.png_of(12000, 12000, b"", interlaced=True)[:33])
    limits = Limits(address_space=400 * 1024 * 1024)
    async with BoundedProcessor(processes=1, limits=limits) as processor:
        studio = Studio(processor, tmp_path)
        assert await studio.fail(bomb) is ProcessingFailure.IMAGE_TOO_LARGE
        await studio.succeed(stored("jpg"))


async def test_a_file_beyond_the_limit_is_not_opened(tmp_path: Path) -> None:
    async with BoundedProcessor(processes=1, limits=Limits(source_bytes=100)) as processor:
        assert await Studio(processor, tmp_path).fail(stored("png")) is ProcessingFailure.IMAGE_TOO_LARGE


SVG = b"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">
<image xlink:href="file:///etc/passwd"/><image xlink:href="http://127.0.0.1:1/"/></svg>"""


@pytest.mark.parametrize(
    "data",
    [
        SVG,
        SVG.partition(b"\n")[2],
        b"%PDF-1.7\n1 0 obj <<>> endobj",
        b"<html><script>alert(1)</script></html>",
        b"PK\x03\x04 a zip",
        b"P6 9 9 255\n" + bytes(243),
        b"\x08\xf2\xa6\xb6" + bytes(100),
        b"ftyp",
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
        b"words",
        b"\0",
        b"",
    ],
    ids=[
        "svg",
        "bare svg",
        "pdf",
        "html",
        "zip",
        "ppm",
        "vips",
        "a box",
        "mp4",
        "words",
        "a byte",
        "nothing",
    ],
)
async def test_what_is_no_image_of_ours_is_not_opened_whatever_its_name(studio: Studio, data: bytes) -> None:
    assert await studio.fail(data, name="picture.png") is ProcessingFailure.FORMAT_UNSUPPORTED


@pytest.mark.parametrize("kind", pictures.FORMATS)
async def test_magic_alone_is_broken(studio: Studio, kind: str) -> None:
    assert await studio.fail(stored(kind)[:24]) is ProcessingFailure.IMAGE_BROKEN


async def test_of_two_files_in_one_only_the_pixels_get_through(studio: Studio) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("run.class", b"code of a stranger")
    script = b"<html><script>alert(document.cookie)</script></html>"
    for data, foreign in (
        (stored("gif") + packed.getvalue(), b"run.class"),
        (
            stored("jpg")[:2] + b"\xff\xfe" + (len(script) + 2).to_bytes(2) + script + stored("jpg")[2:],
            script,
        ),
        (stored("png") + script, script),
    ):
        assert foreign in data
        made = await studio.succeed(data)
        for derived in (studio.display.read_bytes(), studio.thumbnail.read_bytes(), placeholder_of(made)):
            assert foreign not in derived
            assert b"<script" not in derived


async def test_stray_bytes_behind_a_picture_do_not_break_it(studio: Studio) -> None:
    assert isinstance((await studio.succeed(stored("jpg") + bytes(1000))).display, Derivative)


@pytest.mark.parametrize("kind", pictures.FORMATS)
async def test_damaged_files_end_with_a_picture_or_a_reason(studio: Studio, kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(8):
        data = bytearray(stored(kind))
        for _ in range(chance.choice((1, 4, 16))):
            data[chance.randrange(12, len(data))] = chance.randrange(256)
        outcome = await studio.derive(bytes(data))
        made = isinstance(outcome, Derivatives)
        assert studio.display.exists() is studio.thumbnail.exists() is made
    assert isinstance(await studio.derive(stored(kind)), Derivatives)
