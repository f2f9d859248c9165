"""The fuzz targets in short: every parser takes its seeds and some thousand mutations of them."""

import importlib.util
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support import oracles

ROOT = Path(__file__).parents[2]
FUZZ = ROOT / "tests" / "fuzz"
TARGETS = sorted(path.stem for path in FUZZ.glob("[a-z]*.py") if path.stem != "harness")

RUNS = 10_000
"""A second or two each, once what is fuzzed has been imported; a nightly run gives `-max_total_time=600` instead."""
DEADLINE_S = 120.0


def test_every_oracle_is_a_target_and_has_seeds() -> None:
    asked = {
        name.removeprefix("check_")
        for name, it in vars(oracles).items()
        if name.startswith("check_") and it.__module__ == oracles.__name__
    }
    assert set(TARGETS) == asked
    assert {folder.name for folder in (FUZZ / "seeds").iterdir()} == asked


@pytest.fixture(scope="module")
def atheris() -> None:
    if importlib.util.find_spec("atheris") is None:
        reason = "atheris is not installed (it has wheels for Linux on x86-64 only)"
        if os.environ.get("CI") == "true":  # noqa: TID251 - asks about the machine, not about a setting of ours
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def fuzzer(atheris: None, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Fuzzer]":
    with Fuzzer(tmp_path_factory.mktemp("fuzz")) as fuzzer:
        yield fuzzer


class Fuzzer:
    """One process that has imported what is fuzzed, and fuzzes each target in a child."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        with (self.folder / "log").open("w") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.fuzz.harness",
                    f"-runs={RUNS}",
                    f"-artifact_prefix={self.folder}/",
                ],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},  # noqa: TID251 - a child gets what we have
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _kill(self) -> None:
        with self._process:
            os.killpg(self._process.pid, signal.SIGKILL)  # a child that hangs, too

    def fuzz(self, name: str) -> tuple[str, str]:
        """Fuzz a target; return its exit code and what it has written."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{name}\n")
        readable, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        if not readable:
            self._kill()
            self._process = self._start()  # for the targets after this one
            pytest.fail(f"{name} hangs")
        told, _, code = process.stdout.readline().strip().rpartition(" ")
        assert told == name, (self.folder / "log").read_text()
        log = self.folder / f"{name}.log"
        return code, log.read_text() if log.exists() else (self.folder / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_fuzz_finds_nothing(fuzzer: Fuzzer, name: str) -> None:
    code, told = fuzzer.fuzz(name)
    assert code == "0", told
    assert f"Done {RUNS} runs" in told


def test_a_target_runs_by_itself(atheris: None, tmp_path: Path) -> None:
    name = TARGETS[0]
    run = subprocess.run(
        [sys.executable, "-m", f"tests.fuzz.{name}", "-runs=1", f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_fuzzes_what_it_is_named_after(name: str) -> None:
    assert f'fuzz("{name}")' in (FUZZ / f"{name}.py").read_text()
