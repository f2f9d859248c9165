"""Chunks sprayed over many processes while these are killed with -9: every acknowledged byte is right, every record
there once.
"""

from pathlib import Path

import pytest

from tests.support.fleet import ONE_PROCESS, THREE_SERVICES, THREE_WORKERS, Topology, fleet
from tests.support.spray import Spray

pytestmark = pytest.mark.slow

MANY = [THREE_WORKERS, THREE_SERVICES]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the long form its seeds, one a test, so that any of them can be run alone."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(1, 1 + metafunc.config.getoption("--sprays")))


@pytest.mark.parametrize("topology", [ONE_PROCESS, *MANY], ids=lambda topology: topology.name)
def test_forty_uploads_outlive_four_kills(topology: Topology, tmp_path: Path) -> None:
    with fleet(topology, tmp_path) as services:
        spray = Spray(services, seed=1, files=40)
        spray.run(kills=4)
        spray.require_all_right()


@pytest.mark.long
@pytest.mark.parametrize("topology", MANY, ids=lambda topology: topology.name)
def test_five_hundred_uploads_outlive_forty_kills(topology: Topology, tmp_path: Path, seed: int) -> None:
    with fleet(topology, tmp_path) as services:
        spray = Spray(services, seed=seed, files=500)
        spray.run(kills=40)
        spray.require_all_right()
