"""What holds in every suite: asyncio only, honest skips, Hypothesis without clocks."""

import pytest
from hypothesis import HealthCheck, settings

from tests.support.components import require

# Rule 1: no test asserts timings, so Hypothesis has no deadline: a loaded machine is not a bug.
settings.register_profile(
    "haulier",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("haulier")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every async test on asyncio, the only loop Haulier supports."""
    return "asyncio"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Honour `@pytest.mark.needs("chromium", ...)` before any fixture starts work."""
    for marker in item.iter_markers("needs"):
        for component in marker.args:
            require(component)
