"""Write the index of decision records from their own heads; --check only compares."""

import re
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "decisions"
INDEX: Final = FOLDER / "README.md"
_NAME: Final = re.compile(r"^(\d{4})-[a-z0-9-]+\.md$")
_TITLE: Final = re.compile(r"^# (\d{4}) (.+)$")
_STATUS: Final = re.compile(
    r"^Status: (accepted|superseded by \d{4}), \d{4}-\d{2}$", re.MULTILINE
)
_PARTS: Final = ("## Context", "## Decision", "## Consequences")


class BadRecord(Exception):
    """A record that is not written as the others; says what is missing."""


def row(path: Path) -> str:
    """The index line of one record. Raises BadRecord."""
    text = path.read_text(encoding="utf-8")
    named = _NAME.match(path.name)
    titled = _TITLE.match(text.split("\n", 1)[0])
    status = _STATUS.search(text)
    if named is None or titled is None or named[1] != titled[1]:
        raise BadRecord(f"{path.name}: file name and title want the same number")
    if status is None:
        raise BadRecord(f"{path.name}: no status line")
    for part in _PARTS:
        if part not in text:
            raise BadRecord(f"{path.name}: no part {part!r}")
    return f"| {titled[1]} | [{titled[2]}]({path.name}) | {status[1]} |"


def index() -> str:
    """The whole index. Raises BadRecord."""
    records = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
    return "\n".join(
        [
            "# Decisions",
            "",
            "<!-- Written by tools/decisions_index.py from the records; do not edit. -->",
            "",
            "What was hard to reverse, and why it was done.",
            "",
            "| | decision | status |",
            "| --- | --- | --- |",
            *(row(path) for path in records),
            "",
        ]
    )


def main(words: list[str]) -> int:
    try:
        made = index()
    except BadRecord as bad:
        print(f"decisions: {bad}", file=sys.stderr)
        return 1
    if "--check" not in words:
        INDEX.write_text(made, encoding="utf-8")
        return 0
    if not INDEX.exists() or INDEX.read_text(encoding="utf-8") != made:
        print("docs/decisions/README.md is old: run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
