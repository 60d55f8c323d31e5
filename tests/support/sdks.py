"""The published client libraries behind one face, so that one test speaks for all."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import centrifuge
import jwt
from centrifuge import StreamPosition
from centrifuge.filter import FilterNode

from chatmesh.local.mesh import Mesh
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.eventually import eventually

JS: Final = Path(__file__).parents[1] / "system" / "js"
WITHIN_S: Final = 15.0
INSTALL_WITHIN_S: Final = 120.0
BYTES: Final = "$bytes"
"""How a payload that is no JSON is written between us and the JavaScript process."""

Event = dict[str, Any]


class Refused(Exception):
    """What an SDK told the application that asked."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Sdk(Protocol):
    """One client of an application; its events are kept in order."""

    events: list[Event]

    async def connect(self) -> None: ...
    async def subscribe(
        self,
        channel: str,
        *,
        token: str = "",
        renewals: Sequence[str] = (),
        since: Event | None = None,
        states: Sequence[Event] = (),
        members: bool = False,
        delta: bool = False,
        tags: Event | None = None,
    ) -> None:
        """`states` is what the application's getState gives, one after the other.

        So is `renewals` what its getToken gives, whenever `token` is about to end.
        `members` asks for joins and leaves, `delta` for differences, `tags` is a filter.
        """
        ...

    async def unsubscribe(self, channel: str) -> None: ...
    async def resubscribe(self, channel: str) -> None: ...
    async def publish(self, channel: str, data: object) -> None:
        """`bytes` go as they are, in Protobuf. Raises Refused, like all that is asked here."""
        ...

    async def rpc(self, method: str, data: object) -> Any: ...  # noqa: ANN401
    async def history(self, channel: str, **options: object) -> Event: ...
    async def presence(self, channel: str) -> list[Event]:
        """Who is in a channel, by name: what is shown of each of their connections."""
        ...

    async def counts(self, channel: str) -> dict[str, int]: ...
    async def stop(self) -> None: ...


class Member:
    """An SDK with ways to wait for what it hears."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk

    async def hears(self, kind: str, count: int = 1, **more: object) -> Event:
        """Wait until so many events of a kind have come; gives the last of them."""

        def found() -> list[Event]:
            return [
                one
                for one in self.sdk.events
                if one["event"] == kind and more.items() <= one.items()
            ]

        await eventually(
            lambda: len(found()) >= count,
            within_s=WITHIN_S,
            reason=f"{count} x {kind} {more}",
        )
        return found()[count - 1]

    async def enters(
        self, channel: str, *, token: str = "", members: bool = False
    ) -> None:
        """Subscribe, and wait until that stands."""
        await self.sdk.subscribe(channel, token=token, members=members)
        await self.hears("subscribed", channel=channel)

    def publications(self, channel: str) -> list[Event]:
        return [
            one
            for one in self.sdk.events
            if one["event"] == "publication" and one["channel"] == channel
        ]

    def offsets(self, channel: str) -> list[int]:
        return [one["offset"] for one in self.publications(channel)]

    async def has_heard(self, channel: str, top: int) -> list[int]:
        """Wait for an offset; gives all offsets in the order they were heard."""
        await self.hears("publication", channel=channel, offset=top)
        return self.offsets(channel)

    async def send(self, channel: str, message: str, text: str = "hi") -> int:
        """A message with its id; gives its offset."""
        data = {"channel": channel, "id": message, "text": text}
        return (await self.sdk.rpc("message.send", data))["offset"]


@dataclass(frozen=True)
class Kind:
    """A published library, in one of its encodings."""

    name: str
    package: str
    protobuf: bool = False

    def __str__(self) -> str:
        return self.name


NEWEST_JS: Final = Kind("js-5.8", "centrifuge")
PYTHON: Final = Kind("python-0.7", "")
PYTHON_PROTOBUF: Final = Kind("python-0.7-protobuf", "", protobuf=True)
KINDS: Final = (
    NEWEST_JS,
    Kind("js-5.8-protobuf", "centrifuge", protobuf=True),
    Kind("js-5.5", "centrifuge-5.5"),
    PYTHON,
    PYTHON_PROTOBUF,
)


def missing(kind: Kind) -> str | None:
    """Why a library cannot be used here, or None; installs what can be installed."""
    if not kind.package:
        return None
    if shutil.which("node") is None:
        return "node is not installed"
    if all((JS / "node_modules" / name).exists() for name in (kind.package, "ws")):
        return None
    if shutil.which("npm") is None:
        return "npm is not installed"
    words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        words, cwd=JS, capture_output=True, timeout=INSTALL_WITHIN_S, check=False
    )
    return None if done.returncode == 0 else "npm could not install the SDK"


def token(user: str, lives_s: float | None = None, **claims: object) -> str:
    """What the development login would give; it ends in `lives_s`, or never."""
    said: dict[str, Any] = {"sub": user, **claims}
    if lives_s is not None:
        said["exp"] = int(time.time() + lives_s)
    return jwt.encode(said, DEVELOPMENT_SECRET, algorithm="HS256")


def urls(mesh: Mesh) -> tuple[str, str]:
    """Sockets of both gateways of a mesh of two."""
    one, other = mesh.gateways
    return one.ws_url, other.ws_url


@asynccontextmanager
async def member(
    kind: Kind, url: str, *tokens: str, connect: bool = True
) -> AsyncGenerator[Member]:
    """A client of one library; further tokens are what its getToken gives."""
    sdk: Sdk = (
        await JavaScript.start(kind, url, tokens)
        if kind.package
        else Python(kind, url, tokens)
    )
    try:
        one = Member(sdk)
        if connect:
            await sdk.connect()
            await one.hears("connected")
        yield one
    finally:
        await sdk.stop()


# -- JavaScript -----------------------------------------------------------------------


class JavaScript:
    """`centrifuge` from npm in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[Event] = []
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._calls = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, kind: Kind, url: str, tokens: Sequence[str]) -> "JavaScript":
        settings = {"url": url, "tokens": tokens, "protobuf": kind.protobuf}
        process = await asyncio.create_subprocess_exec(
            "node",
            str(JS / "driver.mjs"),
            kind.package,
            json.dumps(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=16 * 1024 * 1024,
        )
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line, object_hook=_or_bytes)
            if "event" in said:
                self.events.append(said)
                continue
            answer = self._answers.pop(said["answer"])
            if "error" in said:
                error = said["error"]
                answer.set_exception(Refused(error["code"], error["message"]))
            else:
                answer.set_result(said["ok"])

    async def _call(self, what: str, **more: object) -> Any:  # noqa: ANN401
        assert self._process.stdin is not None
        self._calls += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[self._calls] = answer
        line = json.dumps({"call": self._calls, "do": what, **more})
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(WITHIN_S):
            return await answer

    async def connect(self) -> None:
        await self._call("connect")

    async def subscribe(
        self,
        channel: str,
        *,
        token: str = "",
        renewals: Sequence[str] = (),
        since: Event | None = None,
        states: Sequence[Event] = (),
        members: bool = False,
        delta: bool = False,
        tags: Event | None = None,
    ) -> None:
        more: Event = {} if since is None else {"since": since}
        if tags is not None:
            more["tags"] = tags
        if renewals:
            more["renewals"] = renewals
        if states:
            more["states"] = states
        if members:
            more["members"] = True
        if delta:
            more["delta"] = True
        await self._call("subscribe", channel=channel, token=token, **more)

    async def unsubscribe(self, channel: str) -> None:
        await self._call("unsubscribe", channel=channel)

    async def resubscribe(self, channel: str) -> None:
        await self._call("resubscribe", channel=channel)

    async def publish(self, channel: str, data: object) -> None:
        if isinstance(data, bytes):
            data = {BYTES: base64.b64encode(data).decode()}
        await self._call("publish", channel=channel, data=data)

    async def rpc(self, method: str, data: object) -> Any:  # noqa: ANN401
        return await self._call("rpc", method=method, data=data)

    async def history(self, channel: str, **options: object) -> Event:
        return await self._call("history", channel=channel, **options)

    async def presence(self, channel: str) -> list[Event]:
        return await self._call("presence", channel=channel)

    async def counts(self, channel: str) -> dict[str, int]:
        return await self._call("counts", channel=channel)

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(WITHIN_S):
            assert await self._process.wait() == 0
            await self._reading


def _or_bytes(found: Event) -> Any:  # noqa: ANN401
    return base64.b64decode(found[BYTES]) if BYTES in found else found


# -- Python ---------------------------------------------------------------------------


class Python:
    """`centrifuge-python` in this process."""

    def __init__(self, kind: Kind, url: str, tokens: Sequence[str]) -> None:
        self.events: list[Event] = []
        self._protobuf = kind.protobuf
        self._subscriptions: dict[str, centrifuge.Subscription] = {}
        rest = list(tokens[1:])

        async def get_token() -> str:
            await asyncio.sleep(0)
            self.told("token")
            return rest.pop(0) if rest else ""

        self._client = centrifuge.Client(
            url,
            events=_ClientEvents(self),
            token=tokens[0] if tokens else "",
            get_token=get_token if len(tokens) > 1 else None,
            use_protobuf=kind.protobuf,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.5,
            timeout=10.0,
            proxy=None,
        )

    def pack(self, value: object) -> Any:  # noqa: ANN401
        if not self._protobuf:
            return value
        return value if isinstance(value, bytes) else json.dumps(value).encode()

    def unpack(self, data: Any) -> Any:  # noqa: ANN401
        if not self._protobuf:
            return data
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError:
            return data

    def told(self, kind: str, **more: object) -> None:
        self.events.append({"event": kind, **more})

    def told_publication(self, channel: str, pub: centrifuge.Publication) -> None:
        self.told("publication", channel=channel, **self.plain(pub))

    def plain(self, pub: centrifuge.Publication) -> Event:
        shown = {"user": ""} if pub.info is None else self.who(pub.info)
        return {"offset": pub.offset, "data": self.unpack(pub.data), **shown}

    def who(self, info: centrifuge.ClientInfo) -> Event:
        return {
            "user": info.user,
            "connInfo": self.unpack(info.conn_info),
            "chanInfo": self.unpack(info.chan_info),
        }

    async def connect(self) -> None:
        await self._client.connect()

    async def subscribe(
        self,
        channel: str,
        *,
        token: str = "",
        renewals: Sequence[str] = (),
        since: Event | None = None,
        states: Sequence[Event] = (),
        members: bool = False,
        delta: bool = False,
        tags: Event | None = None,
    ) -> None:
        # This SDK has no `since`; where an application stands is what it is asked for.
        rest = list(states) if since is None else [since]

        async def state(_: str) -> StreamPosition:
            await asyncio.sleep(0)
            place = rest.pop(0)
            return StreamPosition(place.get("offset", 0), place.get("epoch", ""))

        tokens = list(renewals)

        async def renewed(_: str) -> str:
            await asyncio.sleep(0)
            return tokens.pop(0)

        subscription = self._client.new_subscription(
            channel,
            events=_SubscriptionEvents(self, channel),
            token=token,
            get_token=renewed if tokens else None,
            min_resubscribe_delay=0.05,
            get_state=state if rest else None,
            join_leave=members,
            delta=centrifuge.DeltaType.FOSSIL if delta else None,
            tags_filter=FilterNode(tags) if tags is not None else None,
        )
        self._subscriptions[channel] = subscription
        await subscription.subscribe()

    async def unsubscribe(self, channel: str) -> None:
        await self._subscriptions[channel].unsubscribe()

    async def resubscribe(self, channel: str) -> None:
        await self._subscriptions[channel].subscribe()

    async def publish(self, channel: str, data: object) -> None:
        await self._asked(lambda: self._client.publish(channel, self.pack(data)))

    async def rpc(self, method: str, data: object) -> Any:  # noqa: ANN401
        result = await self._asked(lambda: self._client.rpc(method, self.pack(data)))
        return self.unpack(result.data)

    async def history(self, channel: str, **options: Any) -> Event:  # noqa: ANN401
        if "since" in options:
            since = options["since"]
            options["since"] = StreamPosition(
                since.get("offset", 0), since.get("epoch", "")
            )
        page = await self._asked(lambda: self._client.history(channel, **options))
        return {
            "publications": [self.plain(pub) for pub in page.publications],
            "offset": page.offset,
            "epoch": page.epoch,
        }

    async def presence(self, channel: str) -> list[Event]:
        present = await self._asked(lambda: self._client.presence(channel))
        people = sorted(present.clients.values(), key=lambda one: one.user)
        return [self.who(one) for one in people]

    async def counts(self, channel: str) -> dict[str, int]:
        counts = await self._asked(lambda: self._client.presence_stats(channel))
        return {"clients": counts.num_clients, "users": counts.num_users}

    async def _asked(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return await ask()
        except centrifuge.ReplyError as error:
            raise Refused(error.code, error.message) from error

    async def stop(self) -> None:
        await self._client.disconnect()


class _ClientEvents(centrifuge.ClientEventHandler):
    def __init__(self, sdk: Python) -> None:
        self._sdk = sdk

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        self._sdk.told("connecting", code=ctx.code, reason=ctx.reason)

    async def on_connected(self, ctx: centrifuge.ConnectedContext) -> None:
        self._sdk.told("connected", code=0, reason=ctx.version)

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        self._sdk.told("disconnected", code=ctx.code, reason=ctx.reason)

    async def on_subscribed(self, ctx: centrifuge.ServerSubscribedContext) -> None:
        self._sdk.told(
            "server subscribed",
            channel=ctx.channel,
            recovered=ctx.recovered,
            wasRecovering=ctx.was_recovering,
            data=self._sdk.unpack(ctx.data),
        )

    async def on_publication(self, ctx: centrifuge.ServerPublicationContext) -> None:
        self._sdk.told_publication(ctx.channel, ctx.pub)


class _SubscriptionEvents(centrifuge.SubscriptionEventHandler):
    def __init__(self, sdk: Python, channel: str) -> None:
        self._sdk = sdk
        self._channel = channel

    async def on_subscribing(self, ctx: centrifuge.SubscribingContext) -> None:
        self._sdk.told("subscribing", channel=self._channel, code=ctx.code)

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        position = ctx.stream_position
        self._sdk.told(
            "subscribed",
            channel=self._channel,
            recovered=ctx.recovered,
            wasRecovering=ctx.was_recovering,
            position=(
                {"offset": position.offset, "epoch": position.epoch}
                if position is not None
                else None
            ),
            data=self._sdk.unpack(ctx.data),
        )

    async def on_join(self, ctx: centrifuge.JoinContext) -> None:
        self._sdk.told("join", channel=self._channel, **self._sdk.who(ctx.info))

    async def on_leave(self, ctx: centrifuge.LeaveContext) -> None:
        self._sdk.told("leave", channel=self._channel, **self._sdk.who(ctx.info))

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        self._sdk.told(
            "unsubscribed", channel=self._channel, code=ctx.code, reason=ctx.reason
        )

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        self._sdk.told_publication(self._channel, ctx.pub)
