"""The `haulier` command; `python -m haulier` does the same."""

import gc
import sys


def main() -> None:
    """Run the command line.

    The import stays inside, so that reading the entry point costs nothing and a plain `import haulier` never
    loads Typer or Rich.

    Nothing of what is loaded is garbage before the end, and then all of it goes. Python looks for garbage in it again and
    again while it grows, and once more at the end: that was a fifth of what a short command took.
    """
    gc.disable()  # the callback of the command line enables it again, before any command runs
    try:
        from haulier.cli import main as run_cli  # noqa: PLC0415 - see above

        run_cli()
    except KeyboardInterrupt:  # while it was being imported: no command was there yet to say anything
        sys.exit(130)
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
