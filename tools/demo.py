"""`make demo`: the same clients on two gateways, with the mesh off and on.

Off is the naive hub: each gateway knows only its own sockets, everything works, nothing
crashes, and people on different servers live in different realities. On is chatmesh.
Both run for real; what each client saw is printed side by side.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve

from chatmesh.local.instances import private_folder, private_instances
from chatmesh.local.mesh import SOCKET_PATH, Mesh, Plan
from chatmesh.local.trouble import Trouble

ROOM: Final = "room:lobby"
PEOPLE: Final = ("ada", "bob", "cyd", "dan")
MESSAGES_EACH: Final = 5
SETTLE_S: Final = 1.5
OPEN_WITHIN_S: Final = 10.0
SETTINGS: Final = {
    "CHATMESH_GATEWAY_INSECURE": "true",
    "CHATMESH_LOG_LEVEL": "error",
}


Said = dict[str, Any]


@dataclass
class Person:
    """One client: which gateway it is on, and the messages it saw, in order."""

    name: str
    gateway: int
    saw: list[str] = field(default_factory=list[str])


# -- The mesh off: a hub that everybody has written once ---------------------------------


class NaiveHub:
    """A chat server as in any tutorial: correct, until there is a second one."""

    def __init__(self) -> None:
        self._sockets: set[ServerConnection] = set()

    async def serve(self, socket: ServerConnection) -> None:
        self._sockets.add(socket)
        try:
            async for frame in socket:
                replies, pushes = _naive_answers(
                    json.loads(part) for part in _lines(frame)
                )
                for reply in replies:
                    await socket.send(json.dumps(reply))
                for push in pushes:
                    websockets.broadcast(self._sockets, json.dumps(push))
        finally:
            self._sockets.discard(socket)


def _lines(frame: str | bytes) -> list[str]:
    text = frame if isinstance(frame, str) else frame.decode()
    return [line for line in text.split("\n") if line and line != "{}"]


def _naive_answers(commands: Iterable[Said]) -> tuple[list[Said], list[Said]]:
    replies: list[Said] = []
    pushes: list[Said] = []
    for command in commands:
        number = command["id"]
        if "connect" in command:
            replies.append(
                {"id": number, "connect": {"client": "x", "version": "naive"}}
            )
        elif "subscribe" in command:
            replies.append({"id": number, "subscribe": {}})
        else:
            data = {"type": "message", **command["rpc"]["data"]}
            pushes.append({"push": {"channel": ROOM, "pub": {"data": data}}})
            replies.append({"id": number, "rpc": {"data": {}}})
    return replies, pushes


async def with_naive_hubs(talk: Callable[[list[str]], Awaitable[None]]) -> None:
    hubs = [NaiveHub(), NaiveHub()]
    async with (
        serve(hubs[0].serve, "127.0.0.1", 0) as first,
        serve(hubs[1].serve, "127.0.0.1", 0) as second,
    ):
        ports = [next(iter(s.sockets)).getsockname()[1] for s in (first, second)]
        await talk([f"ws://127.0.0.1:{port}{SOCKET_PATH}" for port in ports])


async def with_chatmesh(talk: Callable[[list[str]], Awaitable[None]]) -> None:
    folder = private_folder()
    environ = dict(os.environ)
    try:
        async with private_instances(environ, folder) as instances:
            plan = Plan(
                amqp_url=instances.amqp_url,
                database_url=instances.database_url,
                folder=folder,
                settings=SETTINGS,
            )
            async with Mesh(plan) as mesh:
                await talk([gateway.ws_url for gateway in mesh.gateways])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- The same clients for both ---------------------------------------------------------


async def talk(urls: list[str], people: list[Person]) -> None:
    """Everybody enters the room, everybody speaks, everybody notes what they see."""
    async with asyncio.timeout(OPEN_WITHIN_S):
        sockets = [await _enter(urls[person.gateway], person) for person in people]
    listening = [
        asyncio.get_running_loop().create_task(_listen(socket, person))
        for socket, person in zip(sockets, people, strict=True)
    ]
    for number in range(MESSAGES_EACH):
        for socket, person in zip(sockets, people, strict=True):
            text = f"{person.name}-{number + 1}"
            data = {"channel": ROOM, "id": text, "text": text}
            call = {"method": "message.send", "data": data}
            await socket.send(json.dumps({"id": 100 + number, "rpc": call}))
    await asyncio.sleep(SETTLE_S)
    for socket in sockets:
        await socket.close()
    await asyncio.wait(listening)


async def _enter(url: str, person: Person) -> ClientConnection:
    socket = await websockets.connect(url, compression=None)
    await socket.send(json.dumps({"id": 1, "connect": {"name": person.name}}))
    await socket.recv()
    await socket.send(json.dumps({"id": 2, "subscribe": {"channel": ROOM}}))
    await socket.recv()
    return socket


async def _listen(socket: ClientConnection, person: Person) -> None:
    async for frame in socket:
        for line in _lines(frame):
            message = json.loads(line)
            if "push" in message and "pub" in message["push"]:
                person.saw.append(message["push"]["pub"]["data"]["text"])


# -- What they saw -----------------------------------------------------------------------


def count_faults(person: Person, everything: list[str]) -> tuple[int, int, int]:
    """Missing, repeated, and out of the order in which their author wrote them."""
    seen = Counter(person.saw)
    missing = sum(1 for text in everything if text not in seen)
    repeated = sum(times - 1 for times in seen.values())
    disorder = 0
    for author in PEOPLE:
        numbers = [int(t.split("-")[1]) for t in person.saw if t.startswith(author)]
        disorder += sum(1 for a, b in pairwise(numbers) if a > b)
    return missing, repeated, disorder


def report(off: list[Person], on: list[Person]) -> bool:
    """Print both runs side by side; True when the mesh kept its promise."""
    everything = [f"{n}-{i + 1}" for i in range(MESSAGES_EACH) for n in PEOPLE]
    agreed = on[0].saw
    print(
        f"\n{len(everything)} messages, {len(PEOPLE)} people, two gateways, one room\n"
    )
    print(f"{'':14}{'mesh off: the naive hub':36}mesh on: chatmesh")
    heads = f"{'saw':>5}{'missing':>9}{'repeated':>10}{'disorder':>10}"
    print(f"{'':14}{heads:36}{heads}")
    kept = sorted(agreed) == sorted(everything)
    for lonely, meshed in zip(off, on, strict=True):
        columns: list[str] = []
        for person in (lonely, meshed):
            missing, repeated, disorder = count_faults(person, everything)
            columns.append(
                f"{len(person.saw):>5}{missing:>9}{repeated:>10}{disorder:>10}"
            )
        kept = kept and meshed.saw == agreed
        print(f"{lonely.name} on g{lonely.gateway + 1:<7}{columns[0]:36}{columns[1]}")
    print("\nwhat ada (gateway 1) and bob (gateway 2) read, mesh off:")
    for person in off[:2]:
        print(f"  {person.name}: {' '.join(person.saw[:8])} …")
    print("and mesh on:")
    for person in on[:2]:
        print(f"  {person.name}: {' '.join(person.saw[:8])} …")
    print(
        "\nwith the mesh on everyone saw the same list, complete, in one order"
        if kept
        else "\nTHE MESH DID NOT KEEP ITS PROMISE"
    )
    return kept


async def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    people = {
        mode: [Person(name, number % 2) for number, name in enumerate(PEOPLE)]
        for mode in ("off", "on")
    }
    print("mesh off: two hubs that do not know of each other …", flush=True)
    await with_naive_hubs(lambda urls: talk(urls, people["off"]))
    print("mesh on: two gateways, a broker, a log …", flush=True)
    try:
        await with_chatmesh(lambda urls: talk(urls, people["on"]))
    except Trouble as trouble:
        print(f"chatmesh: {trouble}", file=sys.stderr)
        return 1
    return 0 if report(people["off"], people["on"]) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
