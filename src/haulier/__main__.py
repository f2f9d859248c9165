"""The `haulier` command; `python -m haulier` does the same."""


def main() -> None:
    """Run the command line.

    The import stays inside, so that reading the entry point costs nothing and a plain `import haulier` never
    loads Typer or Rich.
    """
    from haulier.cli import main as run_cli  # noqa: PLC0415 - see above

    run_cli()


if __name__ == "__main__":
    main()
