"""Prose that names files goes stale unless somebody looks."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
"""Has brackets of its own."""
_PATH = re.compile(
    r"`((?:libs|services|clients|tools|tests|web|deploy|docs|bench)/[\w./-]+)`"
)
_PAGES = sorted(
    page
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*/*/README.md"),
    )
    if "node_modules" not in page.parts and not page.is_relative_to(ROOT / ".venv")
)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_a_page_names_exists(page: Path) -> None:
    """A reader who follows a link arrives."""
    text = page.read_text(encoding="utf-8")

    linked = {page.parent / target for target in _LINK.findall(_CODE.sub("", text))}
    named = {ROOT / path for path in _PATH.findall(text)}

    assert sorted(str(p) for p in linked | named if not p.exists()) == []


def test_the_journey_names_its_files_in_order() -> None:
    """The page is a table whose first row is the socket and whose last is the outbox."""
    text = (ROOT / "docs/message_journey.md").read_text(encoding="utf-8")

    stations = _PATH.findall(text)

    assert stations[0].endswith("websocket_server.py")
    assert stations[-1].endswith("outbox.py")
