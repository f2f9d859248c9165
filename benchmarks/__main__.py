"""Run every benchmark, and write the page that shows the run: `python -m benchmarks`."""

import sys
import traceback
from importlib import import_module

from benchmarks.page import BENCHMARKS, write_page


def main() -> int:
    failed = False
    for name in BENCHMARKS:
        failed = not _passes(name) or failed
        print()
    write_page()
    return int(failed)


def _passes(name: str) -> bool:
    """Run one; that a peer does not start is no reason to leave out the others."""
    try:
        return not import_module(f"benchmarks.{name}").main()
    except Exception:  # noqa: BLE001 - told, and told by the exit code
        traceback.print_exc()
        return False


if __name__ == "__main__":
    sys.exit(main())
