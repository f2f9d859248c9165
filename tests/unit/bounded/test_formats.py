"""What files are, by their first bytes."""

import pytest

from haulier.bounded.formats import (
    ImageFormat,
    binary_type,
    declared_pixels,
    image_format,
    markup_type,
)


def heif(brand: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return (len(body) + 4).to_bytes(4) + body + b"\0\0\0\x08meta"


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\xff\xd8\xff\xe0", ImageFormat.JPEG),
        (b"\x89PNG\r\n\x1a\n", ImageFormat.PNG),
        (b"RIFF\x0a\0\0\0WEBPVP8 ", ImageFormat.WEBP),
        (b"GIF87a", ImageFormat.GIF),
        (b"GIF89a", ImageFormat.GIF),
        (b"II*\0\x08\0\0\0", ImageFormat.TIFF),
        (b"MM\0*\0\0\0\x08", ImageFormat.TIFF),
        (b"II+\0\x08\0\0\0", ImageFormat.TIFF),
        (b"MM\0+\0\x08\0\0", ImageFormat.TIFF),
        (heif(b"avif"), ImageFormat.AVIF),
        (heif(b"avis", b"avif"), ImageFormat.AVIF),
        (heif(b"mif1", b"avif", b"miaf"), ImageFormat.AVIF),
        (heif(b"heic"), ImageFormat.HEIC),
        (heif(b"mif1", b"miaf", b"heic"), ImageFormat.HEIC),
        (heif(b"heix", b"avif"), ImageFormat.HEIC),
        (heif(b"mif1", b"miaf"), None),
        (heif(b"isom", b"mp42"), None),
        (heif(b"mif1") + b"avif", None),
        (b"RIFF\x0a\0\0\0WAVE", None),
        (b"\xff\xd8", None),
        (b"BM", None),
        (b"", None),
    ],
)
def test_images_are_known_by_their_magic(head: bytes, found: ImageFormat | None) -> None:
    assert image_format(head) is found


def test_other_files_are_told_from_text() -> None:
    assert binary_type(b"%PDF-1.7") == "application/pdf"
    assert binary_type(heif(b"isom")) == "video/mp4"
    assert binary_type(b"GIF89a") == "image/gif"
    assert binary_type(b"words") is None


def test_markup_is_known_by_its_start() -> None:
    assert markup_type(" \n<svg>") == "image/svg+xml"
    assert markup_type("<svgs>") is None
    assert markup_type("<!DOCTYPE HTML>") == "text/html"
    assert markup_type("<?xml version='1.0'?><a>") == "application/xml"
    assert markup_type("a <svg>") is None


def test_a_png_tells_its_size_before_any_decoder_sees_it() -> None:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + (70000).to_bytes(4) + (80000).to_bytes(4)
    assert declared_pixels(head) == 70000 * 80000
    assert declared_pixels(head[:20]) == 0
    assert declared_pixels(b"GIF89a" + bytes(30)) == 0
