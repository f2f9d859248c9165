"""Foreign programs that tests need: found, or the test says why it did not run."""

import os
import shutil
import sys
from pathlib import Path

import pytest

EXECUTABLES: dict[str, tuple[str, ...]] = {
    "caddy": (str(Path(sys.executable).with_name("caddy")), "caddy"),
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "curl": ("curl",),
    "nicotine": (str(Path(sys.executable).with_name("nicotine")),),
    "nginx": ("nginx", "/usr/sbin/nginx"),
    "node": ("node", "nodejs"),
    "openssl": ("openssl",),
    "postgresql": ("pg_ctl", *(f"/usr/lib/postgresql/{version}/bin/pg_ctl" for version in range(18, 12, -1))),
}
"""Names under which each component's program is installed, best first."""


def require(component: str) -> str:
    """Find the program of a component.

    Where everything must be there (`CI=true`) a missing one is a failure, elsewhere a skip with its reason.

    Args:
        component: a key of `EXECUTABLES`, or the name of a program.

    Returns:
        The program's path.
    """
    for name in EXECUTABLES.get(component, (component,)):
        path = shutil.which(name)
        if path is not None:
            return path
    reason = f"{component} is not installed (tools/install-test-packages installs it as root)"
    if os.environ.get("CI") == "true":  # noqa: TID251 - asks about the machine, not about a setting of ours
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
