"""Puts the page into wheels and sdists, so that whoever installs them needs no Node.js.

Rule 1: a release, which CI builds, carries the page or is not built. Elsewhere a wheel without Node.js goes without it, and
        so does the editable one of `uv sync`, which finds the page in the checkout.
"""

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):  # type: ignore[misc]  # hatchling is only there while it builds
    """Builds `web/` where that has not been done, and adds what came out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the build to what is packed."""
        if version == "editable":
            return
        root = Path(self.root)
        built = root / "web" / "dist"
        subprocess.run([root / "tools" / "page", "build"], check=True)
        if not built.is_dir():
            return
        place = "haulier/server/page_build" if self.target_name == "wheel" else "web/dist"
        build_data["force_include"][str(built)] = place
