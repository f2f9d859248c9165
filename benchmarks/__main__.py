"""Run every benchmark, and write the page that shows the run: `python -m benchmarks`."""

import sys
from importlib import import_module

from benchmarks.page import BENCHMARKS, write_page


def main() -> int:
    failed = False
    for name in BENCHMARKS:
        failed = bool(import_module(f"benchmarks.{name}").main()) or failed
        print()
    write_page()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
