"""How values become rows."""

import json

import pytest

from haulier.adapters.sql.rows import record_parameters
from haulier.testing.rows import record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        'a "quoted" \\ one',
        "\x01\x1f\b\f\n\r\t\x7f",
        "\u2028\u2029",
        "žluťoučký",
        "🦀",
        "</script>",
    ],
)
def test_metadata_is_written_as_the_standard_library_writes_it(text: str) -> None:
    """Rows of before are read beside those of now, and searched by what is in them."""
    metadata = {"key": text, text or "empty": "value"}
    written = record_parameters(record("r1", metadata=metadata))["metadata"]
    assert written == json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
