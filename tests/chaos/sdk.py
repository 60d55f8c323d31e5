"""The official Python SDK as a member among the others, unchanged.

The SDK reconnects and recovers by itself; the only thing an application has to add is
to page history when it is told that it could not recover, and that is what is here.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, cast

import centrifuge
from centrifuge import (
    ClientEventHandler,
    DisconnectedContext,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)

from chaos.chronicle import (
    Attempt,
    Chronicle,
    Goodbye,
    How,
    Life,
    Member,
    Message,
    Outcome,
    Seen,
)
from chatmesh.runtime.tasks import Tasks

GATEWAY = "balancer"
PAGE_ENTRIES = 500
ANSWER_WITHIN_S = 5.0
PAGE_AGAIN_S = 0.2
CONNECTED_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.5
# It logs every lost connection with a traceback; here that is the order of the day.
logging.getLogger("centrifuge").setLevel(logging.CRITICAL)


class SdkClient:
    """One `centrifuge-python` client; the same face as `client.Client`."""

    def __init__(
        self,
        name: str,
        url: str,
        chronicle: Chronicle,
        *,
        token: str,
        on_seen: Callable[[str, str, float], None],
    ) -> None:
        self.name = name
        self._chronicle = chronicle
        self._on_seen = on_seen
        self._client = centrifuge.Client(
            url, events=_Connection(name, chronicle), token=token
        )
        self._followers: dict[str, _Follower] = {}
        self._tasks = Tasks(self._failed)

    async def start(self) -> None:
        await self._client.connect()

    async def stop(self) -> None:
        await self._client.disconnect()
        await self._tasks.stop(1.0)

    async def join(self, channel: str) -> Member:
        follower = _Follower(
            self.name, channel, self._chronicle, self._on_seen, self._tasks
        )
        subscription = self._client.new_subscription(channel, events=follower)
        follower.subscription = subscription
        self._followers[channel] = follower
        await subscription.subscribe()
        return follower.member

    def position(self, channel: str) -> int:
        return self._followers[channel].position

    async def until_connected(self) -> None:
        """However long it takes; one that stays away for good is found by its goodbye."""
        while True:
            try:
                return await self._client.ready(timeout=CONNECTED_WITHIN_S)
            except (centrifuge.CentrifugeError, TimeoutError):
                await asyncio.sleep(LOOK_AGAIN_S)

    async def attempt(self, message: Message) -> Attempt:
        """Send once and wait as long as the SDK does."""
        attempt = Attempt(GATEWAY, time.monotonic())
        message.attempts.append(attempt)
        data = {"channel": message.channel, "id": message.id, "text": message.text}
        try:
            # The SDK waits for its connection first, and then for the answer.
            async with asyncio.timeout(2 * ANSWER_WITHIN_S):
                result = await self._client.rpc("message.send", data)
        except centrifuge.ReplyError as error:
            attempt.code = error.code
            if not error.temporary:
                attempt.outcome = Outcome.REFUSED
            return attempt
        except (centrifuge.CentrifugeError, TimeoutError):
            return attempt
        attempt.answered_s = time.monotonic()
        attempt.outcome = Outcome.COMMITTED
        attempt.offset = cast("dict[str, Any]", result.data)["offset"]
        return attempt

    def _failed(self, task: str, failure: BaseException) -> None:
        self._chronicle.troubles.append(f"{self.name}: {task} failed: {failure!r}")


class _Connection(ClientEventHandler):
    def __init__(self, name: str, chronicle: Chronicle) -> None:
        self._name = name
        self._chronicle = chronicle

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        # Code 0 is our own wish; every other one means that the SDK stays away.
        goodbye = Goodbye(
            self._name, ctx.code, ctx.reason, time.monotonic(), final=ctx.code != 0
        )
        self._chronicle.goodbyes.append(goodbye)


class _Follower(SubscriptionEventHandler):
    """What one subscription of the SDK is told."""

    subscription: centrifuge.Subscription

    def __init__(
        self,
        client: str,
        channel: str,
        chronicle: Chronicle,
        on_seen: Callable[[str, str, float], None],
        tasks: Tasks,
    ) -> None:
        self.member = chronicle.join(client, channel)
        self.position = -1
        self._chronicle = chronicle
        self._on_seen = on_seen
        self._tasks = tasks
        self._hole_top = 0
        """Up to here history has to be read before what is held may be handed on."""
        self._held: list[centrifuge.Publication] | None = None

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        stands = ctx.stream_position
        assert stands is not None, "rooms are recoverable"
        start = self.position if ctx.was_recovering else stands.offset
        life = Life(
            GATEWAY,
            stands.epoch,
            start,
            recovering=ctx.was_recovering,
            recovered=ctx.recovered,
            began_s=time.monotonic(),
        )
        self.member.lives.append(life)
        self.position = start
        if ctx.was_recovering and not ctx.recovered:
            self._hole_top = stands.offset
            paging = self._held is not None
            self._held = []
            if not paging:
                # In the background: a handler that waited for an answer would keep
                # the SDK from reading it.
                self._tasks.spawn(self._page(stands.epoch), name="page")

    async def _page(self, epoch: str) -> None:
        while self.position < self._hole_top:
            since = centrifuge.StreamPosition(self.position, epoch)
            try:
                page = await self.subscription.history(PAGE_ENTRIES, since)
            except centrifuge.CentrifugeError:
                await asyncio.sleep(PAGE_AGAIN_S)
                continue
            for publication in page.publications:
                if publication.offset <= self._hole_top:
                    self._see(publication, How.PAGED)
        held, self._held = self._held or [], None
        for publication in held:
            self._see(publication, How.LIVE)

    async def on_publication(self, ctx: PublicationContext) -> None:
        if self._held is None:
            self._see(ctx.pub, How.LIVE)
        else:
            self._held.append(ctx.pub)

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        if ctx.code != 0:
            what = f"{self.member.client} was unsubscribed with {ctx.code}"
            self._chronicle.troubles.append(what)

    def _see(self, publication: centrifuge.Publication, how: How) -> None:
        now_s = time.monotonic()
        body = cast("dict[str, Any]", publication.data)
        author = publication.info.user if publication.info is not None else ""
        seen = Seen(publication.offset, body["id"], author, body["text"], now_s, how)
        self.member.lives[-1].seen.append(seen)
        self.position = publication.offset
        if how is How.LIVE:
            self._on_seen(self.member.channel, body["id"], now_s)
