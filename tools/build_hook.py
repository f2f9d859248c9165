"""Puts the page into wheels and sdists, so that whoever installs them needs no Node.js.

Rule 1: a release carries the page or is not built; only `uv sync`, which makes an editable wheel, goes without.
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
        if (root / "web" / "node_modules").is_dir() or not built.is_dir():
            subprocess.run([root / "tools" / "page", "release"], check=True)
        place = "haulier/server/page_build" if self.target_name == "wheel" else "web/dist"
        build_data["force_include"][str(built)] = place
