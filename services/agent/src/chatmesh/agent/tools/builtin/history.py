"""`rooms.RoomReader` over the rpc exchange, as a gateway reads history."""

import asyncio
import logging
import secrets
from typing import Final

from chatmesh.bus.duplex import Delivery, Duplex, Post, open_duplex
from chatmesh.bus.link import PublishFailed
from chatmesh.bus.outgoing import LinkLost
from chatmesh.runtime.clock import Clock
from chatmesh.tools import RetryLater, ToolFailed
from chatmesh.wire import messages
from chatmesh.wire.messages import Malformed, Page, Read, Reads
from chatmesh.wire.topics import HISTORY_SERVICE, Topics

_log = logging.getLogger(__name__)

ANSWER_S: Final = 5.0
RETRY_S: Final = 1.0
_ID_BYTES: Final = 4


class HistoryReader:
    """Asks history for pages. Run it beside whoever uses it."""

    def __init__(self, url: str, topics: Topics, clock: Clock) -> None:
        self._url = url
        self._topics = topics
        self._clock = clock
        self._name = f"tools-history-{secrets.token_hex(_ID_BYTES)}"
        self._lives = 0
        self._requests = 0
        self._link: Duplex | None = None
        self._waiting: dict[int, asyncio.Future[Page]] = {}

    @property
    def _queue(self) -> str:
        return self._topics.tools_queue(f"{self._name}.{self._lives}")

    async def run(self) -> None:
        """One link after the other, until cancelled."""
        while True:
            try:
                await self._live()
            except LinkLost as lost:
                _log.warning("broker link lost", extra={"cause": str(lost)})
                await self._clock.sleep(RETRY_S)

    async def _live(self) -> None:
        self._lives += 1
        async with open_duplex(
            self._url, name=self._name, topics=self._topics, clock=self._clock
        ) as link:
            await link.hear(self._queue, self._topics.rpc, (), self._answered)
            self._link = link
            try:
                await link.run()
            finally:
                self._link = None

    async def page(self, channel: str, before: int, limit: int) -> Page:
        """`RoomReader.page`. Raises RetryLater, ToolFailed."""
        link = self._link
        if link is None:
            raise RetryLater("history cannot be asked: no link to the broker")
        self._requests += 1
        request = self._requests
        answer: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        ask = Read(request, channel, since=before, limit=limit, reverse=True)
        post = Post(
            self._topics.rpc,
            HISTORY_SERVICE,
            messages.encode(Reads(self._queue, [ask])),
            content_type=messages.CONTENT_TYPE,
            expires_ms=int(ANSWER_S * 1000),
            mandatory=True,
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                await link.publish(post)
                page = await answer
        except (TimeoutError, PublishFailed) as error:
            raise RetryLater("history does not answer") from error
        finally:
            self._waiting.pop(request, None)
        if page.error_code:
            raise ToolFailed(f"history refused: {page.error_message}")
        return page

    def _answered(self, delivery: Delivery) -> None:
        try:
            page = messages.decode_gateway_inbound(delivery.body)
        except Malformed as error:
            _log.warning("malformed answer dropped", extra={"cause": str(error)})
            return
        if isinstance(page, Page):
            answer = self._waiting.get(page.request)
            if answer is not None and not answer.done():
                answer.set_result(page)
