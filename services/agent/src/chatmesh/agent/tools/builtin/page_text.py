"""The readable text of an HTML page: no markup, no scripts, no styles.

Runs as a script of its own as well, for `pages`: what strangers write may take the parser
minutes, and only a process can be ended. Standard input holds the page, the one argument
its limits as JSON. Needs nothing beyond the standard library.
"""

import json
import re
import resource
import sys
from html.parser import HTMLParser
from typing import Final

_SILENT: Final = frozenset({"script", "style", "noscript", "template", "svg", "head"})
_BLOCKS: Final = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "br",
        "div",
        "dd",
        "dl",
        "dt",
        "fieldset",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "td",
        "th",
        "tr",
        "ul",
    ]
)
_BLANKS: Final = re.compile(r"[ \t\r\f\v]+")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.title: list[str] = []
        self._silent = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in _SILENT:
            self._silent += 1
        self._in_title = tag == "title"
        if tag in _BLOCKS:
            self.words.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT and self._silent:
            self._silent -= 1
        self._in_title = False
        if tag in _BLOCKS:
            self.words.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._silent:
            self.words.append(data)


def readable(html: str) -> tuple[str, str]:
    """Title and text of a page."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = _BLANKS.sub(" ", "".join(reader.words)).split("\n")
    text = "\n".join(line for one in lines if (line := one.strip()))
    return " ".join("".join(reader.title).split()), text


def main() -> None:
    """Read a page from standard input, and write what is readable as JSON."""
    limits: dict[str, int] = json.loads(sys.argv[1])
    for kind, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
    ):
        resource.setrlimit(kind, (most, most))
    html = sys.stdin.buffer.read().decode("utf-8", "replace")
    title, text = readable(html)
    most = limits["text_chars"]
    cut = len(text) > most
    json.dump([title[: limits["title_chars"]], text[:most], cut], sys.stdout)


if __name__ == "__main__":
    main()
