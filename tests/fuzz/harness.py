"""Runs one oracle of tests/support/oracles.py under atheris (libFuzzer).

All options of libFuzzer may follow, for instance `-runs=100000`, `-max_total_time=60`, or the file of a
crash to see it again. A text that once broke a parser becomes a file in `tests/fuzz/seeds/NAME/`.

Rule 1: what is fuzzed is imported under instrumentation; whatever it stands on is not, to stay fast.
Rule 2: that import takes many times longer than a short fuzz, so `python -m tests.fuzz.harness` does it once and fuzzes
        every oracle in a child of its own.
"""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import atheris

SEEDS = Path(__file__).parent / "seeds"


def fuzz(name: str) -> None:
    """Fuzz the oracle `check_NAME` until the runs are used up; ends the process.

    Bytes become text as a header's do where they are not UTF-8, and lone surrogates where a JSON string
    would bring them: both ways in are tried on the same bytes.
    """
    _fuzz(name, _import_oracles())


def fuzz_each() -> None:
    """Fuzz every oracle whose name is read, in a child that writes to NAME.log; print the name with the child's exit code."""
    oracles = _import_oracles()
    for line in sys.stdin:
        name = line.strip()
        child = os.fork()
        if child == 0:
            log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, sys.stdout.fileno())
            os.dup2(log, sys.stderr.fileno())
            _fuzz(name, oracles)
            os._exit(os.EX_SOFTWARE)  # never two that read what is asked for
        _, status = os.waitpid(child, 0)
        print(name, os.waitstatus_to_exitcode(status), flush=True)


def _import_oracles() -> ModuleType:
    with atheris.instrument_imports(include=["haulier"]):
        return importlib.import_module("tests.support.oracles")


def _fuzz(name: str, oracles: ModuleType) -> None:
    check = getattr(oracles, f"check_{name}")

    def run(data: bytes) -> None:
        check(data.decode("latin-1"))
        if not data.isascii():
            check(data.decode("utf-8", "surrogateescape"))

    seeds = ",".join(map(str, sorted((SEEDS / name).iterdir())))
    atheris.Setup([*sys.argv, f"-seed_inputs={seeds}"], run)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz_each()
