"""Only tests that share a service stay together."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.distribution import slow_first, unit_of

SHARED = """
@pytest.fixture(
    scope="module", params=["one", "two"]
)
def service() -> None: ...
"""
ALONE = """
@pytest.fixture
def service() -> None:
    parse(scope="module")
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "shared.py").write_text(SHARED)
    (tmp_path / "alone.py").write_text(ALONE)
    return tmp_path


def test_tests_that_share_a_service_are_one_unit(files: Path) -> None:
    assert unit_of("shared.py::test_a", files) == unit_of("shared.py::Class::test_b[x::y]", files)


def test_tests_that_share_nothing_are_units_of_their_own(files: Path) -> None:
    units = [unit_of(f"alone.py::{name}", files) for name in ("test_a[1]", "test_a[2]", "Class::test_a")]
    assert len(set(units)) == len(units)


def test_what_is_slow_and_alone_comes_first_and_the_rest_keeps_its_order(
    request: pytest.FixtureRequest, files: Path
) -> None:
    def item(name: str, file: str) -> pytest.Item:
        function = pytest.Function.from_parent(request.node.parent, name=name, callobj=lambda: None)
        function.path = files / file
        if name.startswith("slow"):
            function.add_marker("slow")
        return function

    items = [
        item("quick_1", "alone.py"),
        item("slow_1", "alone.py"),
        item("slow_2", "shared.py"),
        item("quick_2", "shared.py"),
        item("slow_3", "alone.py"),
    ]
    assert [it.name for it in slow_first(items)] == ["slow_1", "slow_3", "quick_1", "slow_2", "quick_2"]


def test_the_suites_that_start_services_are_shared_out_so() -> None:
    root = Path(__file__).parents[3]
    whole = unit_of("tests/interop/test_tus_core.py::test_any", root)
    assert whole == "tests/interop/test_tus_core.py"
    page = "tests/browser/test_page.py::test_the_page_does_what_its_tests_say[x]"
    assert unit_of(page, root) == page


RUN = """
import pytest
from tests.support.distribution import FineScheduling

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return FineScheduling(config, log)
"""
CRASHES = """
import os, pytest

@pytest.mark.parametrize("number", range(40))
def test_one(number):
    if number in {crashing}:
        os._exit(1)
"""


@pytest.mark.parametrize("crashing", [{20}, {39}, {10, 11, 30}])
def test_a_run_whose_workers_crash_ends_and_runs_every_other_test_once(
    tmp_path: Path, crashing: set[int]
) -> None:
    (tmp_path / "conftest.py").write_text(RUN)
    (tmp_path / "test_crashes.py").write_text(CRASHES.replace("{crashing}", str(crashing)))
    root = Path(__file__).parents[3]
    options = f"-n 2 --dist loadfile -c /dev/null -p no:cacheprovider -p no:randomly -q -o pythonpath={root}"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options.split(), f"--rootdir={tmp_path}", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f"{len(crashing)} failed, {40 - len(crashing)} passed" in run.stdout, run.stdout + run.stderr
