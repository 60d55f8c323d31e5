"""What the fake model says, known beforehand to whoever checks it.

A question names its story: `@teller #k7 chars=900 pause_ms=15`. Whoever is asked again, in
another attempt or process, tells the same. With `tool=add` a tool is called before.
"""

import re
from dataclasses import dataclass
from typing import Final

from support.fake_openai import Asked, Reply, ToolUse, echo

_KEY: Final = re.compile(r"#([\w-]+)")
_TOOL: Final = re.compile(r"tool=(\w+)")
TOOL_ARGUMENTS: Final[dict[str, dict[str, object]]] = {
    "add": {"a": 1, "b": 2},
    "ponder": {"seconds": 2.0},
    "send_parcel": {"to": "", "seconds": 2.0},
}
"""By tool; `to` is the story's key."""
_NUMBER: Final = re.compile(r"(chars|pause_ms|piece)=(\d+)")
CHARS: Final = 400
PIECE_CHARS: Final = 7


@dataclass(frozen=True, slots=True)
class Story:
    """One story; its text says where in it each part belongs."""

    key: str
    chars: int = CHARS
    pause_ms: int = 10
    piece: int = PIECE_CHARS
    tool: str = ""

    @property
    def question(self) -> str:
        tool = f" tool={self.tool}" if self.tool else ""
        return (
            f"#{self.key} chars={self.chars} pause_ms={self.pause_ms}"
            f" piece={self.piece}{tool}"
        )

    @property
    def call(self) -> Reply:
        """What the model does before it tells the story."""
        arguments = dict(TOOL_ARGUMENTS[self.tool])
        if "to" in arguments:
            arguments["to"] = self.key
        return Reply(tools=[ToolUse(self.tool, arguments, id=f"call-{self.key}")])

    @property
    def text(self) -> str:
        """Numbered words, some of them beyond the basic plane, without blanks around."""
        words = ""
        number = 0
        while len(words) < self.chars:
            words += f"{self.key}.{number}{'🫖' if number % 5 == 0 else ''} "
            number += 1
        return words[: self.chars - 1] + "."

    def reply(
        self, *, break_after: int | None = None, stall_after: int | None = None
    ) -> Reply:
        return Reply.of(
            self.text,
            piece_chars=self.piece,
            pause_s=self.pause_ms / 1000,
            break_after=break_after,
            stall_after=stall_after,
        )


def story_in(text: str) -> Story | None:
    """The story a question names last, if it names one."""
    keys = list(_KEY.finditer(text))
    if not keys:
        return None
    numbers = {
        name: int(value) for name, value in _NUMBER.findall(text, keys[-1].end())
    }
    tool = _TOOL.search(text, keys[-1].end())
    return Story(
        keys[-1].group(1),
        numbers.get("chars", CHARS),
        numbers.get("pause_ms", 10),
        numbers.get("piece", PIECE_CHARS),
        tool.group(1) if tool else "",
    )


def tell(asked: Asked) -> Reply:
    """The model that tells the story it was asked for."""
    story = story_in(asked.prompt)
    if story is None:
        return echo(asked)
    called = asked.messages and asked.messages[-1].get("role") == "tool"
    return story.reply() if called or not story.tool else story.call
