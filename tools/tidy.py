"""What no linter checks: names, places, sentences, and functions that must not grow.

`--write` takes shorter functions into tools/long_functions.txt; it never takes longer
ones.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LONG: Final = ROOT / "tools" / "long_functions.txt"

FUNCTION_LINES_MAX: Final = 60
MODULE_LINES_MAX: Final = 1200
BANNED_NAMES: Final = frozenset(
    [
        "util",
        "utils",
        "helper",
        "helpers",
        "manager",
        "managers",
        "common",
        "misc",
        "base",
        "core",
        "shared",
        "types",
        "stuff",
        "functions",
    ]
)
TEST_LEVELS: Final = frozenset(
    ("unit", "deploy", "service", "system", "browser", "chaos")
)
SENTENCE_ENDS: Final = frozenset(".:?!")
TEST_SUPPORT: Final = frozenset(("support", "conformance", "load", "vectors"))
UNFINISHED: Final = re.compile(r"\b(TODO|FIXME|XXX)\b")
# Where a package comes from and where a checkout lies is nobody's business but the
# machine's. Built from pieces, so that this file passes its own check.
FOREIGN: Final = re.compile(
    "|".join(
        (
            r"(?<![\w.])/(work|farm|home|root)/",
            r"file:/" + r"/",
            r"pypi\.org/" + "simple",
            r"files\.python" + r"hosted",
            r"registry\.npm" + "js",
            r"--(extra-)?index" + "-url",
        )
    )
)
TEXT: Final = frozenset(
    [
        ".py",
        ".md",
        ".toml",
        ".yaml",
        ".yml",
        ".json",
        ".txt",
        ".lock",
        ".sql",
        ".ts",
        ".tsx",
        ".css",
        ".html",
        ".sh",
        ".proto",
        ".cfg",
        ".ini",
        ".in",
    ]
)
FOREIGN_ALLOWED: Final[dict[str, str]] = {
    "tools/tidy.py": "spells what it looks for",
    "tests/unit/local/test_places.py": "is about such folders",
    "tests/unit/gateway/test_tokens.py": "such an address must be refused",
    "web/src/model/text.test.ts": "such an address must be no link",
    "tools/local/src/chatmesh/local/places.py": "is about such folders",
}


def files() -> list[Path]:
    """What is committed or would be; without git, everything."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        return [path for path in ROOT.rglob("*") if path.is_file()]
    names = listed.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def misplaced(path: Path) -> Iterator[str]:
    """A file in a place where nobody would look for it."""
    parts = path.relative_to(ROOT).parts
    if path.stem in BANNED_NAMES and path.suffix == ".py":
        yield "is a name that says nothing; call it for what it is about"
    top, *inner = parts[:-1] or ("",)
    if top == "tests" and inner:
        if inner[0] not in TEST_LEVELS | TEST_SUPPORT:
            yield f"tests live in {', '.join(sorted(TEST_LEVELS))}"
        if path.name.startswith("test_") and inner[0] not in TEST_LEVELS:
            yield "is a test outside the levels, so nobody runs it"
    if path.suffix == ".py" and "src" in parts:
        index = parts.index("src")
        if parts[index + 1] != "chatmesh" or len(parts) < index + 4:
            yield "belongs into a package of chatmesh"
        if parts[0] == "services" and parts[index + 2] != parts[1]:
            yield f"belongs into chatmesh.{parts[1]}"


def wrong_text(path: Path, text: str) -> Iterator[str]:
    if path.suffix not in TEXT and path.name not in {"Makefile", "Dockerfile"}:
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if UNFINISHED.search(line) and relative(path) not in FOREIGN_ALLOWED:
            yield f"line {number} says it is unfinished"
        if FOREIGN.search(line) and relative(path) not in FOREIGN_ALLOWED:
            yield f"line {number} names a place of one machine or an index"


def wrong_module(path: Path, tree: ast.Module, text: str) -> Iterator[str]:
    docstring = ast.get_docstring(tree)
    if docstring is None and text.strip():
        yield "has no docstring that says what it is for"
    elif (
        docstring is not None
        and docstring.splitlines()[0].rstrip()[-1:] not in SENTENCE_ENDS
    ):
        yield "has a docstring whose first line is no sentence"
    in_tests = path.relative_to(ROOT).parts[0] == "tests"
    if text.count("\n") > MODULE_LINES_MAX and not in_tests:
        yield f"is longer than {MODULE_LINES_MAX} lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.TryStar) and raises_in_handler(node):
            # Python 3.11.2, which Debian 12 has, wraps it in a group once more.
            yield f"line {node.lineno} raises inside except*; see runtime.failures"
    if not path.name.startswith("test_"):
        return
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and ast.get_docstring(node) is None
        ):
            yield f"{node.name} has no sentence saying the behaviour"


def raises_in_handler(node: ast.TryStar) -> bool:
    return any(
        isinstance(inner, ast.Raise) and inner.exc is not None
        for handler in node.handlers
        for inner in ast.walk(handler)
    )


def long_functions(path: Path, tree: ast.Module) -> Iterator[tuple[str, int]]:
    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (child.end_lineno or child.lineno) - child.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    yield f"{relative(path)}:{prefix}{child.name}", lines
                yield from visit(child, f"{prefix}{child.name}.")

    # A list of metrics is as long as there are metrics; it has no branch to get lost in.
    if path.name != "metrics.py":
        yield from visit(tree, "")


def known_long() -> dict[str, int]:
    if not LONG.exists():
        return {}
    rows = [line.split() for line in LONG.read_text().splitlines() if line[:1] != "#"]
    return {name: int(lines) for lines, name in rows}


def write_long(lengths: dict[str, int]) -> None:
    head = (
        f"# Functions over {FUNCTION_LINES_MAX} lines. They may only get shorter and "
        "fewer:\n# `tools/tidy.py --write` takes what has shrunk.\n"
    )
    rows = [f"{lines} {name}\n" for name, lines in sorted(lengths.items())]
    LONG.write_text(head + "".join(rows))


def grown(found: dict[str, int], known: dict[str, int]) -> Iterator[str]:
    for name, lines in sorted(found.items()):
        if name not in known:
            yield f"{name} has {lines} lines; {FUNCTION_LINES_MAX} are the most"
        elif lines > known[name]:
            yield f"{name} grew from {known[name]} to {lines} lines; it may only shrink"
    for name, lines in sorted(known.items()):
        if found.get(name, 0) < lines:
            yield f"{name} has shrunk: run tools/tidy.py --write"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="take shorter functions")
    options = parser.parse_args()
    complaints: list[str] = []
    lengths: dict[str, int] = {}
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found = [*misplaced(path), *wrong_text(path, text)]
        if path.suffix == ".py":
            tree = ast.parse(text)
            found += wrong_module(path, tree, text)
            if "test" not in path.relative_to(ROOT).parts[0]:
                lengths |= dict(long_functions(path, tree))
        complaints += [f"{relative(path)}: {complaint}" for complaint in found]
    known = known_long()
    if options.write:
        kept = {
            name: min(lines, lengths[name])
            for name, lines in known.items()
            if name in lengths
        }
        write_long(kept)
        known = kept
    complaints += grown(lengths, known)
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
