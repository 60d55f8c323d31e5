"""Tests of a session that read as the transcript of a conversation.

    Playbook(session).hears(connect(1)).asks_for(Send(...)).hears(...)

Everything a session asks for has to be expected: an effect that no `asks_for` names is a
failure at the next line.
"""

from typing import Self

from chatmesh.gateway.effects import Close, Effect, Heard, Send
from chatmesh.gateway.session import Session
from chatmesh.wire.client import Command, Reply
from chatmesh.wire.client_json import OversizedCommand

NOW_S = 1_700_000_000.0
"""Unix time at which a conversation begins."""


class Playbook:
    """One session, spoken to and listened to."""

    def __init__(self, session: Session, *, now_s: float = NOW_S) -> None:
        self.session = session
        self.now_s = now_s
        self._asked: list[Effect] = []

    def hears(self, *said: Command | OversizedCommand | Heard) -> Self:
        """Commands of one frame, or outcomes of earlier effects."""
        self._nothing_unexpected()
        frame = [one for one in said if isinstance(one, Command | OversizedCommand)]
        if frame:
            self._asked += self.session.receive(frame, self.now_s)
        for one in said:
            if not isinstance(one, Command | OversizedCommand):
                self._asked += self.session.hear(one, self.now_s)
        return self

    def does(self, effects: list[Effect]) -> Self:
        """What the session answers to a call that no client makes."""
        self._nothing_unexpected()
        self._asked += effects
        return self

    def after(self, seconds: float) -> Self:
        """Time passes, and the session looks at the clock."""
        self._nothing_unexpected()
        self.now_s += seconds
        self._asked += self.session.expire(self.now_s)
        return self

    def asks_for(self, *effects: Effect) -> Self:
        """Exactly these effects, in this order, since the last line."""
        asked, self._asked = self._asked, []
        assert list(effects) == asked
        return self

    def answers(self, *replies: Reply) -> Self:
        """Exactly these replies and nothing else."""
        return self.asks_for(*[Send(reply) for reply in replies])

    def sent(self) -> list[Send]:
        """Replies and nothing else, whatever they say."""
        asked, self._asked = self._asked, []
        replies = [one for one in asked if isinstance(one, Send)]
        assert replies == asked
        return replies

    def is_silent(self) -> Self:
        return self.asks_for()

    def closes(self, code: int) -> Self:
        """Goodbye with this code and some reason; leaving channels may come before."""
        asked, self._asked = self._asked, []
        goodbye = asked[-1] if asked else None
        assert isinstance(goodbye, Close), f"no goodbye in {asked}"
        assert (code, True) == (
            goodbye.disconnect.code,
            bool(goodbye.disconnect.reason),
        )
        return self

    def _nothing_unexpected(self) -> None:
        assert self._asked == [], "asked for, and not expected"
