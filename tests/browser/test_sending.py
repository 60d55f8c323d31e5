"""Messages that do not get through at the first try."""

import json
from collections.abc import Callable
from typing import Any

from playwright.async_api import Page, WebSocketRoute

from browser.chat_page import RECONNECTS_WITHIN_S, ChatPage
from browser.conftest import OpenPage
from chatmesh.local.mesh import Mesh
from support.eventually import eventually

SOCKET = "**/connection/websocket"
NO_ANSWER = "No answer yet, trying again"

Command = dict[str, Any]
Judge = Callable[[Command], dict[str, Any] | None]


async def intercept_sends(page: Page, judge: Judge) -> list[Command]:
    """Stand between page and gateway; answer a send in the gateway's place, or not.

    `judge` gets each `message.send` and returns the error to answer with, or None to let
    it through. Returns the list of all sends, which grows.
    """
    sends: list[Command] = []

    def on_socket(socket: WebSocketRoute) -> None:
        gateway = socket.connect_to_server()

        def from_page(frame: str | bytes) -> None:
            for line in str(frame).splitlines():
                command = json.loads(line)
                if command.get("rpc", {}).get("method") != "message.send":
                    gateway.send(line)
                    continue
                sends.append(command["rpc"]["data"])
                error = judge(command["rpc"]["data"])
                if error is None:
                    gateway.send(line)
                else:
                    socket.send(json.dumps({"id": command["id"], "error": error}))

        socket.on_message(from_page)

    await page.route_web_socket(SOCKET, on_socket)
    return sends


async def reopened(chat: ChatPage) -> None:
    """Connect again, through what stands in between now."""
    await chat.page.reload()
    await chat.is_connected()
    await chat.has_loaded()


async def test_an_outage_of_history_delays_and_does_not_double(
    mesh: Mesh, open_page: OpenPage
) -> None:
    """No answer in time means nobody knows; the same id again means nobody doubles."""
    ada = await open_page(mesh.gateways[0], "ada")
    bob = await open_page(mesh.gateways[1], "bob")
    mesh.history.pause()
    try:
        await ada.say("one")
        await ada.say("two")
        await ada.page.get_by_text(NO_ANSWER).first.wait_for(timeout=20_000)
        assert await bob.texts() == []
    finally:
        mesh.history.resume()

    await bob.sees("one", "two", within_s=RECONNECTS_WITHIN_S)
    await ada.has_sent_everything()
    await ada.sees("one", "two")
    assert [message.offset for message in await bob.shown()] == [1, 2]


async def test_a_temporary_error_is_tried_again_with_the_same_id(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """The page repeats a send that the mesh could not take, without being asked."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    answers = iter(
        [{"code": 504, "message": "no answer in time", "temporary": True}] * 2
    )
    sends = await intercept_sends(ada.page, lambda _: next(answers, None))
    await reopened(ada)

    await ada.say("persistent")
    await ada.sees("persistent")
    await ada.has_sent_everything()

    assert len(sends) == 3
    assert len({send["id"] for send in sends}) == 1


async def test_a_refused_message_is_retried_by_hand(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """A refusal is shown with its reason; Retry sends the same id, Discard lets go."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    closed = {"code": 103, "message": "permission denied"}
    answers = iter([closed, closed])
    sends = await intercept_sends(ada.page, lambda _: next(answers, None))
    await reopened(ada)

    await ada.say("keep me")
    await ada.page.get_by_text("Not sent. You may not write in this room.").wait_for()
    await ada.say("drop me")
    await eventually(lambda: ada.page.get_by_role("button", name="Discard").count())
    await ada.page.get_by_role("button", name="Discard").nth(1).click()
    await ada.page.get_by_role("button", name="Retry").click()
    await ada.has_sent_everything()

    assert await ada.texts() == ["keep me"]
    assert [send["text"] for send in sends] == ["keep me", "drop me", "keep me"]
    assert sends[0]["id"] == sends[2]["id"]


async def test_a_conflict_is_told_as_one(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """An id that stands for another text already cannot be sent, and says why."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    taken = {"code": 409, "message": "conflict: this id was used for another message"}
    await intercept_sends(ada.page, lambda _: taken)
    await reopened(ada)

    await ada.say("too late")

    await ada.page.get_by_text("Conflict: this message's id already stands").wait_for()


async def test_an_unsent_message_survives_a_reload(
    mesh: Mesh, open_page: OpenPage
) -> None:
    """Closing the page before the answer came neither loses nor doubles a message."""
    ada = await open_page(mesh.gateways[0], "ada")
    bob = await open_page(mesh.gateways[1], "bob")
    mesh.history.pause()
    try:
        await ada.say("in the air")
        await eventually(ada.outgoing.count)
        await ada.page.reload()
    finally:
        mesh.history.resume()

    await ada.is_connected()
    await ada.has_sent_everything()
    await ada.sees("in the air")
    await bob.sees("in the air")
    assert len(await bob.texts()) == 1
