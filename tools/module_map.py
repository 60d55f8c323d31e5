"""Print one line per module: the first sentence it says about itself."""

import ast
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ("libs", "services", "clients", "tools", "bench")


def sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.partition("\n")[0]


def main() -> None:
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            if path.name == "__init__.py" and not sentence(path):
                continue
            name = path.relative_to(ROOT).as_posix()
            shown = name.replace("/src/chatmesh/", "/…/")
            print(f"{shown:<52} {sentence(path)}")


if __name__ == "__main__":
    main()
