"""Bytes per second as people write them."""

import pytest

from haulier.core.quantity import read_rate


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("500", 500), ("500B", 500), ("500kB", 500_000), ("500KB", 500_000), ("10MB", 10_000_000), ("1GB", 10**9),
        ("1TB", 10**12), ("64KiB", 65536), ("2MiB", 2_097_152), ("1.5MiB", 1_572_864), ("1GiB", 2**30), ("1TiB", 2**40),
        (" 10 MB/s ", 10_000_000), ("0.1B", 1),
    ],
)  # fmt: skip
def test_a_rate_is_a_number_and_a_unit(text: str, bytes_per_s: int) -> None:
    assert read_rate(text) == bytes_per_s


@pytest.mark.parametrize("text", ["0", "0MB", "0.0"])
def test_nothing_is_no_bound(text: str) -> None:
    assert read_rate(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10M",
        "10Mb",
        "10mb",
        "10mib",
        "-1MB",
        "MB",
        "1e6",
        "1,5MB",
        "10MB/h",
        "9" * 16,
        "٣MB",
        "inf",
        "iB",
        "5iB",
    ],
)
def test_what_can_be_taken_in_two_ways_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="bytes per second like 500kB, 10MB or 2MiB"):
        read_rate(text)
