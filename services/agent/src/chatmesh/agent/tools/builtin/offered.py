"""The built-in tools, as models see them."""

from datetime import datetime
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import pydantic

from chatmesh.agent.tools.builtin import pages, rooms, snippets
from chatmesh.agent.tools.builtin.arithmetic import NotArithmetic, calculate
from chatmesh.agent.tools.builtin.rooms import Found, RoomReader
from chatmesh.runtime.clock import Clock
from chatmesh.tools import Tool, ToolContext, ToolFailed, tool

SEARCH_CHARS_MAX: Final = 200

Words = Annotated[str, pydantic.Field(min_length=1, max_length=SEARCH_CHARS_MAX)]


@tool(read_only=True, timeout_s=5)
def calculator(
    expression: Annotated[
        str, pydantic.Field(description="Such as 3 * (2 + 4) ^ 2 or sqrt(2)")
    ],
) -> str:
    """Calculates: + - * / // % ^, parentheses, sqrt, sin, log and the like."""
    try:
        return str(calculate(expression))
    except NotArithmetic as error:
        raise ToolFailed(str(error)) from error


@tool(read_only=True, timeout_s=20)
async def fetch_page(
    url: Annotated[str, pydantic.Field(description="http or https, public")],
) -> dict[str, Any]:
    """Fetches a page of the public internet and gives its text."""
    try:
        page = await pages.fetch(url)
    except pages.NotFetched as error:
        raise ToolFailed(str(error)) from error
    return page._asdict()


@tool(read_only=False, needs_approval=True, timeout_s=snippets.SNIPPET_S + 10)
async def run_python(
    code: Annotated[
        str, pydantic.Field(description="Prints what matters; standard library only")
    ],
) -> dict[str, Any]:
    """Runs a Python snippet without network, in a directory of its own, for 10 seconds."""
    try:
        ran = await snippets.run(code)
    except (snippets.NotRun, snippets.WroteTooMuch) as error:
        raise ToolFailed(str(error)) from error
    except TimeoutError as error:
        raise ToolFailed(
            f"the snippet was ended after {snippets.SNIPPET_S:g} seconds"
        ) from error
    return ran._asdict()


def made_with(clock: Clock, reader: RoomReader) -> list[Tool[..., Any]]:
    """All built-in tools; those about time and rooms know where to look."""

    @tool(read_only=True, timeout_s=5)
    def current_time(
        zone: Annotated[
            str, pydantic.Field(description="IANA name such as Europe/Berlin")
        ] = "UTC",
    ) -> str:
        """The date and time now."""
        try:
            there = ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise ToolFailed(f"no such time zone: {zone[:64]}") from error
        now = datetime.fromtimestamp(clock.unix_ms() / 1000, there)
        return now.strftime("%A %Y-%m-%d %H:%M:%S %Z")

    @tool(read_only=True, timeout_s=15)
    async def room_search(words: Words, context: ToolContext) -> list[Found]:
        """Searches the latest messages of this room for words, newest first."""
        said = await rooms.latest(reader, context.room, rooms.SCAN_ENTRIES_MAX)
        return rooms.matching(said, words)

    @tool(read_only=True, timeout_s=15)
    async def room_summary(context: ToolContext) -> dict[str, Any]:
        """Who said how much in this room lately, about what, and the latest messages."""
        said = await rooms.latest(reader, context.room, rooms.SUMMARY_MESSAGES_MAX)
        return rooms.summary(said)

    return [
        calculator,
        current_time,
        room_search,
        room_summary,
        fetch_page,
        run_python,
    ]
