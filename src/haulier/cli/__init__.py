"""The `haulier` command."""

from haulier.cli.main import main as main
