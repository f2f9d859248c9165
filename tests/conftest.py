"""What holds in every suite: asyncio only, honest skips, an end to waiting, Hypothesis without clocks."""

from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.components import require
from tests.support.distribution import FineScheduling, slow_first
from tests.support.patience import bounded

# Rule 1: no test asserts timings, so Hypothesis has no deadline: a loaded machine is not a bug.
settings.register_profile(
    "haulier",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("haulier")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--seeds`, `--sprays` and `--long`, which `make simulate` and `make spray` pass on."""
    parser.addoption("--seeds", type=int, default=200, help="how many schedules each simulation runs")
    parser.addoption("--sprays", type=int, default=1, help="how many seeds the long spray-and-kill test runs")
    parser.addoption("--long", action="store_true", help="run what takes minutes by nature, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `long`, unless asked for: each has a short form that always runs.

    Workers begin with the slow ones.
    """
    left_out = (
        [] if config.getoption("--long") else [item for item in items if item.get_closest_marker("long")]
    )
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    if hasattr(config, "workerinput"):
        items[:] = slow_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FineScheduling | None:
    """Share out by files only what stands on services of a file."""
    return FineScheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every simulation that asks for a `seed` its schedules, one a test, so that any of them replays alone."""
    if "seed" in metafunc.fixturenames and ".simulation." in f".{metafunc.module.__name__}.":
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every async test on asyncio, the only loop Haulier supports."""
    return "asyncio"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Honour `@pytest.mark.needs("chromium", ...)` before any fixture starts work."""
    for marker in item.iter_markers("needs"):
        for component in marker.args:
            require(component)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Let no async test wait forever, but those that take minutes by nature."""
    if iscoroutinefunction(pyfuncitem.obj) and not pyfuncitem.get_closest_marker("long"):
        pyfuncitem.obj = bounded(pyfuncitem.obj)
    return (yield)
