"""Runs one oracle of tests/support/oracles.py under atheris (libFuzzer).

All options of libFuzzer may follow, for instance `-runs=100000`, `-max_total_time=60`, or the file of a
crash to see it again. A text that once broke a parser becomes a file in `tests/fuzz/seeds/NAME/`.

Rule 1: what is fuzzed is imported under instrumentation; whatever it stands on is not, to stay fast.
"""

import importlib
import sys
from pathlib import Path

import atheris

SEEDS = Path(__file__).parent / "seeds"


def fuzz(name: str) -> None:
    """Fuzz the oracle `check_NAME` until the runs are used up; ends the process.

    Bytes become text as a header's do where they are not UTF-8, and lone surrogates where a JSON string
    would bring them: both ways in are tried on the same bytes.
    """
    with atheris.instrument_imports(include=["haulier"]):
        oracles = importlib.import_module("tests.support.oracles")
    check = getattr(oracles, f"check_{name}")

    def run(data: bytes) -> None:
        check(data.decode("latin-1"))
        if not data.isascii():
            check(data.decode("utf-8", "surrogateescape"))

    seeds = ",".join(map(str, sorted((SEEDS / name).iterdir())))
    atheris.Setup([*sys.argv, f"-seed_inputs={seeds}"], run)
    atheris.Fuzz()
