"""What a process offers in its first moment, before it has heard the workers."""

import asyncio

from chatmesh.agent.tools.first_words import FirstWords
from chatmesh.agent.tools.port import ToolOffer
from chatmesh.runtime.clock import SystemClock
from chatmesh.runtime.tasks import Tasks

LONG_S = 25.0
"""Nobody in here waits so long: the test would fail by its own limit."""


def offer(name: str) -> ToolOffer:
    return ToolOffer(
        name=name,
        description="",
        parameters={},
        result=None,
        read_only=True,
        side_effect=False,
        needs_approval=False,
        timeout_s=1,
    )


class Served:
    """What is served so far, and who waits for it."""

    def __init__(self, within_s: float = LONG_S) -> None:
        self.words = FirstWords(SystemClock(), within_s)
        self.names: list[str] = []
        self.tasks = Tasks()

    def asks(self, *names: str) -> "asyncio.Task[list[ToolOffer]]":
        waiting = self.words.wait(names, lambda: [offer(name) for name in self.names])
        return self.tasks.spawn(waiting, name="ask for offers")

    def registers(self, *names: str) -> None:
        self.names += names
        self.words.heard()


async def found(asking: "asyncio.Task[list[ToolOffer]]") -> list[str]:
    return [one.name for one in await asking]


async def test_who_asks_too_early_waits_for_the_workers() -> None:
    """The link and the registration come after the question, and it is answered at once."""
    served = Served()
    asking = served.asks("add")
    await asyncio.sleep(0)
    served.words.linked()
    await asyncio.sleep(0)
    assert not asking.done()
    served.registers("add")
    assert await found(asking) == ["add"]


async def test_every_name_is_waited_for() -> None:
    """A worker of another pool may answer a moment later."""
    served = Served()
    served.words.linked()
    asking = served.asks("add", "mail_*")
    served.registers("add")
    await asyncio.sleep(0)
    assert not asking.done()
    served.registers("mail_send", "mail_read")
    assert await found(asking) == ["add", "mail_send", "mail_read"]


async def test_a_pattern_waits_until_it_is_quiet() -> None:
    """What comes right after the first worker belongs to it as well."""
    served = Served()
    served.words.linked()
    asking = served.asks("*")
    served.registers("add")
    await asyncio.sleep(0)
    served.registers("subtract")
    assert await found(asking) == ["add", "subtract"]


async def test_nobody_waits_for_what_does_not_come() -> None:
    """Neither for a tool that nobody serves, nor for a link."""
    served = Served(within_s=0.05)
    assert await found(served.asks("add")) == []
    served.words.linked()
    served.registers("other")
    assert await found(served.asks("add")) == ["other"]


async def test_later_nobody_waits_at_all() -> None:
    """When the first moment is over, what is not there is not there."""
    served = Served(within_s=0.01)
    served.words.linked()
    await asyncio.sleep(0.02)
    # A later link is no first moment: what was known is known.
    served.words.linked()
    asking = served.asks("add")
    for _ in range(3):
        await asyncio.sleep(0)
    assert asking.done()
