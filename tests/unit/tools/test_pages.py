"""Fetching pages: what is checked where the connection is made."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from chatmesh.agent.tools.builtin import pages
from chatmesh.agent.tools.builtin.page_text import readable
from chatmesh.agent.tools.builtin.pages import NotFetched, PublicNetwork, fetch

HTML = b"<html><head><title>A  page</title><script>x()</script></head><body><p>Hello <b>you</b></p>"


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncGenerator[int]:
    """A server that gives these answers, one connection each."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def page(body: bytes, kind: str = "text/html", more: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n"
    return head.encode() + body


def names(**known: str) -> PublicNetwork:
    """A network in which names are these, and 127.0.0.1 stands for the public one."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        del port
        await asyncio.sleep(0)
        return [known.get(host.replace(".", "_"), host)]

    return PublicNetwork(resolve, allowed=lambda address: address == "127.0.0.1")


async def test_a_page_becomes_text() -> None:
    """Title and words are kept, scripts are not."""
    async with answering(page(HTML)) as port:
        found = await fetch(
            f"http://public.test:{port}/", names(public_test="127.0.0.1")
        )
    assert (found.title, found.text, found.status) == ("A page", "Hello you", 200)


async def test_a_redirect_does_not_lead_inside() -> None:
    """The second address is checked like the first, whatever it is called."""
    for target in ("http://10.0.0.7/", "http://inside.test/", "file:/etc/passwd"):
        moved = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"
        async with answering(moved.encode()) as port:
            network = names(public_test="127.0.0.1", inside_test="192.168.0.9")
            with pytest.raises(NotFetched):
                await fetch(f"http://public.test:{port}/", network)


async def test_loopback_is_not_fetched() -> None:
    """Without a test's own rules, not even a server that answers is reached."""
    async with answering(page(HTML)) as port:
        for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0"):  # noqa: S104 - refused
            with pytest.raises(NotFetched):
                await fetch(f"http://{host}:{port}/")


async def test_redirects_end() -> None:
    """A circle is left after a few rounds."""
    again = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with answering(*[again] * 9) as port:
        with pytest.raises(NotFetched, match="redirects"):
            await fetch(f"http://public.test:{port}/", names(public_test="127.0.0.1"))


async def test_pictures_are_no_text_and_large_pages_are_cut() -> None:
    """Other kinds are refused; a page over the limit is cut where it ends."""
    network = names(public_test="127.0.0.1")
    large = b"a" * (pages.PAGE_BYTES_MAX + 10)
    async with answering(page(b"GIF", "image/gif"), page(large, "text/plain")) as port:
        with pytest.raises(NotFetched, match="no text"):
            await fetch(f"http://public.test:{port}/", network)
        found = await fetch(f"http://public.test:{port}/", network)
    assert found.cut
    assert len(found.text) == pages.TEXT_CHARS_MAX


async def test_a_page_that_takes_the_parser_minutes_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker goes on meanwhile, and nothing is left of it afterwards."""
    monkeypatch.setattr(pages, "READ_S", 1.0)
    endless = b"<html>" + b"<a " * (pages.PAGE_BYTES_MAX // 3 - 10)
    began_s = time.process_time()
    async with answering(page(endless)) as port:
        with pytest.raises(NotFetched, match="not found within 1 s"):
            await fetch(f"http://public.test:{port}/", names(public_test="127.0.0.1"))
    assert time.process_time() - began_s < 1, "it took this process's own time"


def test_blanks_take_no_longer_than_words() -> None:
    """Also those that are blank and no ASCII, in lines without end."""
    began_s = time.process_time()
    _, text = readable("a" + "\xa0" * 500_000 + "b<p> \xa0 c \t d\n\n\n e")
    assert text.endswith("b\nc d\ne")
    assert time.process_time() - began_s < 2
