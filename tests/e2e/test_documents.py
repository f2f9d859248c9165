"""What the pages tell people to type works: every `sh` and `python` block is run, in order, page by page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pictures import stored
from tests.support.processes import HAULIER, ServeProcess, environment

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    "tutorial/first-upload.md",
    "howto/upload-with-curl.md",
    "howto/upload-in-chunks-with-curl-and-python.md",
    "howto/upload-by-form.md",
    "howto/use-the-cli.md",
    "howto/use-the-client.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_work(service: ServeProcess, tmp_path: Path, page: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(stored("jpg"))
    script = ["set -eu", f'export PATH="{HAULIER.parent}:$PATH"']
    for number, (language, code) in enumerate(BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))):
        if language == "python":
            (folder / f"block{number}.py").write_text(code.replace("http://127.0.0.1:8000", service.url))
        script.append(code if language == "sh" else f"{sys.executable} block{number}.py")
    assert len(script) > 2, "the page has no examples"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script).replace("http://127.0.0.1:8000", service.url)],
        cwd=folder,
        env=environment({"HAULIER_URL": service.url, "HAULIER_HOME": str(folder / "home")}),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_the_page_about_tests_pass(tmp_path: Path) -> None:
    page = (DOCS / "howto/test-code-that-uses-haulier.md").read_text(encoding="utf-8")
    files = {code.split('"""')[1]: code for _, code in BLOCK.findall(page)}
    assert {"conftest.py", "test_backup.py", "test_engine.py", "test_my_sink.py"} == files.keys()
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        env=environment({"HAULIER_HOME": str(tmp_path / "home")}),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
