"""Checks the documents: links lead somewhere, every problem has its page, and generated parts are current.

Rule 1: only what is in the checkout is judged; addresses elsewhere are not fetched.
Rule 2: a problem's `type` is the address of a page that the service serves from docs/errors, so a slug without
    a page, or a page without a slug, is a broken promise.
Rule 3: what is written from the code is compared with what the code says now.
"""

import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools import draw_states, list_errors, write_access, write_settings
from tools.generated import ROOT

GENERATED = (*draw_states.PARTS, *list_errors.PARTS, *write_access.PARTS, *write_settings.PARTS)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|!\[[^\]]*\]\(\s*([^)\s]+)[^)]*\)")
CODE = re.compile(r"^(```|~~~).*?^\1\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:|^//", re.IGNORECASE)


def main() -> int:
    """Print every broken promise, then how much was checked."""
    pages = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    faults = [fault for page in pages for fault in _broken_links(page)]
    slugs = _slugs()
    if slugs is None:
        print("docs: slugs NOT CHECKED, haulier.server.problems has no SLUGS yet")
    else:
        faults += _slug_faults(slugs)
    faults += [
        f"docs: '{part.name}' of {part.page.relative_to(ROOT)} is old; run .venv/bin/python -m {part.module}"
        for part in GENERATED
        if not part.is_current()
    ]
    print(
        "\n".join(faults)
        or f"docs: {len(pages)} pages, {len(slugs or ())} slugs, every link leads somewhere, "
        f"{len(GENERATED)} generated parts are current"
    )
    return 1 if faults else 0


def _broken_links(page: Path) -> Iterator[str]:
    for match in LINK.finditer(CODE.sub("", page.read_text(encoding="utf-8"))):
        link: str = match[1] or match[2]
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path)
        where = page.relative_to(ROOT)
        if not target.exists():
            yield f"docs: {where} links to {link}, which does not exist"
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
            yield f"docs: {where} links to {link}, but that page has no such heading"


def _anchors(page: Path) -> set[str]:
    """Name a page's headings as Markdown viewers do."""
    headings = HEADING.findall(
        re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    )
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def _slugs() -> set[str] | None:
    try:
        problems = importlib.import_module("haulier.server.problems")
    except ModuleNotFoundError:
        return None
    found: Iterable[str] | None = getattr(problems, "SLUGS", None)
    return None if found is None else set(found)


def _slug_faults(slugs: set[str]) -> list[str]:
    pages = {page.stem for page in (ROOT / "docs" / "errors").glob("*.md")} - {"README", "index"}
    missing = [
        f"docs: the problem {slug} has no page docs/errors/{slug}.md" for slug in sorted(slugs - pages)
    ]
    return missing + [f"docs: docs/errors/{page}.md describes no problem" for page in sorted(pages - slugs)]


if __name__ == "__main__":
    sys.exit(main())
