"""Checks the licence of everything that users install; Haulier itself is Apache-2.0.

Rule 1: no GPL or AGPL at run time. LGPL only by name in `SHARED_LIBRARIES`: a separate library, not our code.
Rule 2: what a package says about itself counts only if it is on the list of licences we know; an unknown one
    fails until a person has read it.
"""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent

ALLOWED = {
    "0BSD",
    "APACHE 2.0",
    "APACHE SOFTWARE LICENSE",
    "APACHE-2.0",
    "BSD LICENSE",
    "BSD-2-CLAUSE",
    "BSD-3-CLAUSE",
    "CC0-1.0",
    "ISC",
    "ISC LICENSE (ISCL)",
    "MIT",
    "MIT LICENSE",
    "MIT-0",
    "MIT-CMU",
    "MOZILLA PUBLIC LICENSE 2.0 (MPL 2.0)",
    "MPL-2.0",
    "PSF-2.0",
    "PYTHON SOFTWARE FOUNDATION LICENSE",
    "UNLICENSE",
    "ZLIB",
}
SHARED_LIBRARIES: dict[str, str] = {
    "pi-heif": "BSD itself; carries libheif and libde265 unchanged; docs/adr/0030-open-files-in-bounded-children.md",
    "psycopg": "PostgreSQL's driver, unchanged and replaceable; docs/adr/0015-run-on-postgresql.md",
    "psycopg-binary": "the same, compiled, with libpq",
    "pyvips-binary": "carries libvips and its decoders unchanged, none of them GPL; the same page",
}
"""LGPL packages that are allowed: name and why."""


def main() -> int:
    """Print what does not pass and how many did."""
    refused: list[str] = []
    names = _run_time_packages()
    for name in names:
        try:
            says = _licence_of(name)
        except metadata.PackageNotFoundError:
            continue  # locked for another platform
        if not _is_allowed(says) and name not in SHARED_LIBRARIES:
            refused.append(f"licences: {name} says {says!r}, which nobody has allowed")
    print("\n".join(refused) or f"licences: {len(names)} packages, all allowed")
    return 1 if refused else 0


def _run_time_packages() -> list[str]:
    export = ["tools/uv", "export", "--quiet", "--frozen", "--no-default-groups", "--all-extras"]
    listing = subprocess.run(
        [*export, "--no-emit-project", "--no-header", "--no-hashes", "--no-annotate"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [line.split("==")[0].split("[")[0] for line in listing.splitlines() if "==" in line]


def _licence_of(name: str) -> str:
    """Read the SPDX expression, else the classifiers (taken as all binding), else the first line of the free text."""
    about = metadata.metadata(name)
    if "License-Expression" in about:
        return about["License-Expression"]
    prefix = "License :: OSI Approved :: "
    classifiers = [line.removeprefix(prefix) for line in about.get_all("Classifier", []) if prefix in line]
    text = "".join(about.get_all("License", []))
    return " AND ".join(classifiers) or (text.splitlines() or ["nothing"])[0]


def _is_allowed(says: str) -> bool:
    """Judge an expression: any part of an OR suffices, every part of an AND is needed."""
    choices = re.split(r"\s+OR\s+", says.upper())
    return any(
        all(
            part.strip("() ") in ALLOWED or part.strip() in ALLOWED for part in re.split(r"\s+AND\s+", choice)
        )
        for choice in choices
    )


if __name__ == "__main__":
    sys.exit(main())
