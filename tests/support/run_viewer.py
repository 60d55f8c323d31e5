"""Somebody at a screen: a raw connection that comes back, and asks for what it missed.

It gives up where the official SDKs do, and nowhere else.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.run_screens import Screen

AGAIN_S: Final = 0.25
"""After this long a snapshot is asked for once more, as long as something is missing."""
BACK_AFTER_S: Final = 0.1
ANSWERED_WITHIN_S: Final = 20.0
IN_WITHIN_S: Final = 90.0
PAGE_ENTRIES: Final = 200
RESUBSCRIBE_MIN: Final = 2500
"""An unsubscribe with this code or a higher one asks to come again."""


class Refusal(Exception):
    """The error a call was answered with."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.temporary: bool = error.get("temporary", False)


def token(
    user: str, secret: str = DEVELOPMENT_SECRET, *, role: str | None = None
) -> str:
    """A connection token, whose holder has a role if one is given."""
    claims: dict[str, Any] = {"sub": user}
    if role is not None:
        claims["meta"] = {"role": role}
    return jwt.encode(claims, secret, algorithm="HS256")


class Viewer:
    """Watches one room; use `watching` to have one."""

    def __init__(self, urls: Sequence[str], token: str, room: str) -> None:
        self.screen = Screen()
        self.room = room
        self.lives = 0
        """Subscriptions so far."""
        self.refused: list[dict[str, Any]] = []
        """Errors of subscribes: somebody who is not let in sees nothing."""
        self._urls = itertools.cycle(urls)
        self._token = token
        self._position: dict[str, Any] | None = None
        self._socket: ClientConnection | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.connected = asyncio.Event()
        self._snapshots: set[asyncio.Task[None]] = set()
        self._coming_in: asyncio.Task[None] | None = None
        self._held: list[dict[str, Any]] | None = None
        """Live publications that wait while what was missed is read from history."""

    async def watch(self) -> None:
        """Stay, for ever, whatever becomes of gateways."""
        for url in self._urls:
            # Gone, going or not there yet: the next one.
            with contextlib.suppress(WebSocketException, OSError, TimeoutError):
                async with connect(
                    url, compression=None, ping_interval=None, max_size=None
                ) as socket:
                    await self._live(socket)
            self.connected.clear()
            self._socket = None
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError("cut"))
            self._waiting.clear()
            await asyncio.sleep(BACK_AFTER_S)

    async def _live(self, socket: ClientConnection) -> None:
        self._socket = socket
        reading = asyncio.ensure_future(self._read(socket))
        self._coming_in = asyncio.ensure_future(self._come_in(socket))
        try:
            await asyncio.wait({reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending = (reading, self._coming_in, *self._snapshots)
            for one in ending:
                one.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _come_in(self, socket: ClientConnection) -> None:
        """Connect and subscribe; where that ends without an answer, on a new line."""
        try:
            await self.command(connect={"token": self._token})
        except Refusal as refusal:
            self.refused.append({"code": refusal.code})
            if refusal.temporary:
                await socket.close()
        except TimeoutError:
            await socket.close()
        except ConnectionError:
            pass  # It has ended already, and `watch` makes the next one.
        else:
            await self._subscribe(socket)

    async def _subscribe(self, socket: ClientConnection) -> None:
        """Until it is in the room and has what it missed, or is not let in."""
        try:
            # What comes behind the reply, in one frame with it, has to wait for it.
            self._held = []
            await self._begin(await self._asked_again(subscribe=self._wish()))
        except Refusal as refusal:
            self.refused.append({"code": refusal.code})
        except TimeoutError:
            await socket.close()
        except ConnectionError:
            pass  # As above.
        else:
            self.lives += 1
            self.connected.set()
            self._keep_whole(at_least_once=True)

    def _wish(self) -> dict[str, Any]:
        wish: dict[str, Any] = {"channel": self.room}
        if self._position is not None:
            wish |= {"recover": True, **self._position}
        return wish

    async def _asked_again(self, **request: object) -> dict[str, Any]:
        """The reply, once it is no temporary error. Raises as `command`."""
        while True:
            try:
                return await self.command(**request)
            except Refusal as refusal:
                if not refusal.temporary:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def _begin(self, said: dict[str, Any]) -> None:
        """Show what a subscribe reply has, or page what it says was missed."""
        reply = said["subscribe"]
        stands = {"epoch": reply.get("epoch", ""), "offset": reply.get("offset", 0)}
        if self._position is None:
            self._position = stands
        elif not reply.get("recovered"):
            await self._page(stands)
        for publication in reply.get("publications", ()):
            self._show(publication)
        held, self._held = self._held or [], None
        for publication in held:
            self._show(publication)

    async def _page(self, stands: dict[str, Any]) -> None:
        assert self._position is not None
        self._position["epoch"] = stands["epoch"]
        while self._position["offset"] < stands["offset"]:
            since = dict(self._position)
            request = {"channel": self.room, "limit": PAGE_ENTRIES, "since": since}
            page = (await self._asked_again(history=request))["history"]
            for publication in page.get("publications", ()):
                if publication["offset"] <= stands["offset"]:
                    self._show(publication)
            if self._position == since:
                await asyncio.sleep(AGAIN_S)

    async def _read(self, socket: ClientConnection) -> None:
        async for frame in socket:
            assert isinstance(frame, str), "JSON travels in text frames"
            for line in frame.split("\n"):
                said: dict[str, Any] = json.loads(line)
                if not said:
                    await socket.send("{}")
                elif "id" in said:
                    self._answer(said)
                else:
                    self._pushed(said.get("push", {}), socket)

    def _answer(self, said: dict[str, Any]) -> None:
        waiting = self._waiting.pop(said["id"], None)
        if waiting is None or waiting.done():
            return
        if "error" in said:
            waiting.set_exception(Refusal(said["error"]))
        else:
            waiting.set_result(said)

    def _pushed(self, push: dict[str, Any], socket: ClientConnection) -> None:
        if "pub" in push:
            if self._held is None:
                self._show(push["pub"])
            else:
                self._held.append(push["pub"])
        elif push.get("unsubscribe", {}).get("code", 0) >= RESUBSCRIBE_MIN:
            if self._coming_in is not None:
                # Perhaps it was still reading what it had missed: that goes on anew.
                self._coming_in.cancel()
            self._coming_in = asyncio.ensure_future(self._subscribe(socket))

    def _show(self, publication: dict[str, Any]) -> None:
        if publication.get("offset") and self._position is not None:
            self._position["offset"] = publication["offset"]
        self.screen.hear(publication)
        if self.screen.behind and not self._snapshots:
            self._keep_whole()

    def _keep_whole(self, *, at_least_once: bool = False) -> None:
        task = asyncio.ensure_future(
            self._catch_up_until_whole(at_least_once=at_least_once)
        )
        self._snapshots.add(task)
        task.add_done_callback(self._snapshots.discard)

    async def _catch_up_until_whole(self, *, at_least_once: bool) -> None:
        wanted = at_least_once
        while wanted or self.screen.behind:
            try:
                await self.catch_up()
                wanted = False
            except Refusal as refusal:
                wanted = wanted and refusal.temporary
            except (ConnectionError, TimeoutError):
                pass  # Asked again, as long as this connection is there.
            await asyncio.sleep(AGAIN_S)

    # -- What a person does -----------------------------------------------------------

    async def command(self, **request: object) -> dict[str, Any]:
        """One command and its reply. Raises Refusal and ConnectionError."""
        if self._socket is None:
            raise ConnectionError("not connected")
        number = next(self._numbers)
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            await self._socket.send(json.dumps({"id": number, **request}))
        except WebSocketException as error:
            self._waiting.pop(number, None)
            raise ConnectionError(str(error)) from error
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            return await waiting

    async def call(self, method: str, **data: object) -> Any:  # noqa: ANN401 - JSON
        """An rpc about the room. Raises Refusal."""
        data = {"channel": self.room, **data}
        reply = await self.command(rpc={"method": method, "data": data})
        return reply["rpc"]["data"]

    async def catch_up(self) -> None:
        """Ask for the runs there are, and show them."""
        self.screen.catch_up(await self.call("run.snapshot"))

    async def say(self, message: str, text: str) -> None:
        """A message with an id of its own."""
        await self.call("message.send", id=message, text=text)

    async def reload(self) -> None:
        """As F5 does: nothing is remembered."""
        self.screen = Screen()
        self._position = None
        if self._socket is not None:
            await self._socket.close()


@asynccontextmanager
async def watching(
    urls: str | Sequence[str],
    user: str,
    room: str,
    *,
    secret: str = DEVELOPMENT_SECRET,
    role: str | None = None,
) -> AsyncGenerator[Viewer]:
    """A viewer who is in the room."""
    addresses = [urls] if isinstance(urls, str) else urls
    viewer = Viewer(addresses, token(user, secret, role=role), room)
    task = asyncio.ensure_future(viewer.watch())
    try:
        async with asyncio.timeout(IN_WITHIN_S):
            await viewer.connected.wait()
        yield viewer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
