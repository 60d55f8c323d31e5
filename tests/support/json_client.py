"""A small client of the JSON protocol on a raw socket, with nothing done for you."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Said = dict[str, Any]

ANSWER_WITHIN_S = 5.0


class JsonClient:
    """Sends commands, keeps what it hears, answers pings as long as it reads."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[Said] = []
        self._last = 0

    async def send(self, *commands: Said) -> None:
        await self.socket.send("\n".join(json.dumps(one) for one in commands))

    async def ask(self, **request: object) -> Said:
        """Send one command and wait for its reply; what else comes is kept."""
        self._last += 1
        await self.send({"id": self._last, **request})
        number = self._last
        return await self.until(lambda said: said.get("id") == number)

    async def until(
        self, wanted: Callable[[Said], bool], within_s: float = ANSWER_WITHIN_S
    ) -> Said:
        """Read until something comes; everything read is in `heard`."""
        async with asyncio.timeout(within_s):
            while True:
                for said in await self.read():
                    if wanted(said):
                        return said

    async def read(self) -> list[Said]:
        """One frame's messages."""
        frame = await self.socket.recv()
        assert isinstance(frame, str), "JSON travels in text frames"
        said: list[Said] = [json.loads(line) for line in frame.split("\n")]
        self.heard += said
        if {} in said:
            await self.socket.send("{}")
        return said

    async def connect(self, token: str = "", **more: object) -> Said:
        request = {"token": token, **more} if token else more
        return await self.ask(connect=request)

    async def subscribe(self, channel: str, **more: object) -> Said:
        return await self.ask(subscribe={"channel": channel, **more})

    async def offsets(
        self, channel: str, top: int, within_s: float = 20.0
    ) -> list[int]:
        """Offsets pushed on a channel, once the top has come."""

        def newest(said: Said) -> bool:
            push = said.get("push", {})
            return push.get("channel") == channel and (
                push.get("pub", {}).get("offset") == top
            )

        if not any(newest(said) for said in self.heard):
            await self.until(newest, within_s)
        pushes = [said["push"] for said in self.heard if "push" in said]
        return [
            push["pub"]["offset"]
            for push in pushes
            if push.get("channel") == channel and "pub" in push
        ]

    async def goodbye(self, within_s: float = ANSWER_WITHIN_S) -> tuple[int, str]:
        """Read to the end; code and reason of the close frame."""
        async with asyncio.timeout(within_s):
            try:
                while True:
                    await self.read()
            except ConnectionClosed:
                return self.socket.close_code or 0, self.socket.close_reason or ""


@asynccontextmanager
async def json_client(url: str, **options: Any) -> AsyncGenerator[JsonClient]:  # noqa: ANN401
    """A client whose socket is open, and which has said nothing yet."""
    options = {"compression": None, "ping_interval": None, "max_size": None, **options}
    async with connect(url, **options) as socket:
        yield JsonClient(socket)
