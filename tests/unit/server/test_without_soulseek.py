"""`haulier serve` loads nothing of the Soulseek node, which runs in a process of its own."""

import subprocess
import sys

LOADED = """
import sys
import haulier.cli.serve, haulier.worker, haulier.bootstrap, haulier.embedding, haulier.server.app
print(*(name for name in sys.modules if name.startswith(("haulier.soulseek", "haulier.sharing"))))
"""


def test_the_service_never_imports_the_node() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
