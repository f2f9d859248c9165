"""Asks a vulnerability service about everything that users install.

Rule 1: a vulnerability fails. A service that does not answer, or knows none of the packages, is told in so many
    words and fails nothing, because a check must not depend on a third party; it never reads as "all is well".
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
UNREACHABLE = ("could not connect", "connectionerror", "timed out", "max retries", "name resolution")


def main() -> int:
    """Audit the locked run-time dependencies and tell the result in one line or a list."""
    with tempfile.NamedTemporaryFile(suffix=".txt") as requirements:
        export = ["tools/uv", "export", "--quiet", "--frozen", "--no-default-groups", "--all-extras"]
        subprocess.run(
            [*export, "--no-emit-project", "--no-header", "--output-file", requirements.name],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        audit = [sys.executable, "-m", "pip_audit", "--requirement", requirements.name, "--disable-pip"]
        answer = subprocess.run(
            [*audit, "--require-hashes", "--progress-spinner", "off", "--format", "json"],
            check=False,
            capture_output=True,
            text=True,
        )
    try:
        packages = json.loads(answer.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        return _tell_no_answer(answer.stderr)
    return _tell(packages)


def _tell_no_answer(reason: str) -> int:
    if any(sign in reason.lower() for sign in UNREACHABLE):
        print("audit: NOT DONE, the vulnerability service cannot be reached from here")
        return 0
    print(reason)
    return 1


def _tell(packages: list[dict[str, object]]) -> int:
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    vulnerable = [package for package in packages if package.get("vulns")]
    asked = len(packages) - len(unknown)
    for package in vulnerable:
        print(f"audit: {package['name']} {package['version']}: {json.dumps(package['vulns'])}")
    if asked == 0:
        print(
            f"audit: NOT DONE, the vulnerability service answers for none of the {len(packages)} packages here"
        )
    elif unknown:
        print(f"audit: {asked} packages asked about; NOT DONE for {', '.join(map(str, unknown))}")
    else:
        print(f"audit: {asked} packages, {len(vulnerable)} with known vulnerabilities")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
