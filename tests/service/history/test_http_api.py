"""The service API of a running history, attacked by its own OpenAPI document."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from chatmesh.local.service import Service
from chatmesh.wire import limits
from support.history_side import GatewaySide, history_service
from support.instances import Corner
from support.openapi_attack import openapi_attack

KEY = "a key"
ROOM = "/v1/channels/room:a/publications"


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.fixture
async def service(
    corner: Corner, database_url: str, tmp_path: Path
) -> AsyncIterator[Service]:
    made = history_service(
        amqp_url=corner.url,
        database_url=database_url,
        prefix=corner.prefix,
        folder=tmp_path,
        settings={"CHATMESH_HISTORY_API_KEYS": f"other,{KEY}"},
    )
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def api(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=service.http_url,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=10,
    ) as client:
        yield client


async def test_publishing_is_answered_after_the_commit(
    api: httpx.AsyncClient, corner: Corner
) -> None:
    """The answer has the place, and every gateway hears the publication."""
    async with GatewaySide.open(corner.url, corner.prefix) as side:
        await side.hear("room:a")
        answer = await api.post(ROOM, json={"id": "1", "data": {"text": "hé"}})
        again = await api.post(ROOM, json={"id": "1", "data": {"text": "hé"}})
        other = await api.post(ROOM, json={"id": "1", "data": {"text": "no"}})

        assert answer.status_code == 200
        assert answer.json()["offset"] == 1
        assert again.json() == answer.json()
        assert other.status_code == 409
        assert other.headers["content-type"] == "application/problem+json"
        assert other.json()["code"] == 409
        page = (await api.get(ROOM)).json()
        (entry,) = side.heard("room:a")
    assert [p["data"] for p in page["publications"]] == [{"text": "hé"}]
    assert entry.data.decode() == '{"text":"hé"}'


async def test_publications_come_by_page_in_both_directions(
    api: httpx.AsyncClient,
) -> None:
    """`since` of one page asks for the next, until it is null."""
    for n in range(1, 6):
        await api.post(ROOM, json={"id": str(n), "data": n})

    async def walk(**query: bool) -> list[list[int]]:
        pages: list[list[int]] = []
        since: int | None = 0
        while since is not None:
            answer = await api.get(ROOM, params={"limit": 2, "since": since, **query})
            page = answer.json()
            pages.append([p["offset"] for p in page["publications"]])
            since = page["since"]
        return pages

    assert await walk() == [[1, 2], [3, 4], [5]]
    assert await walk(reverse=True) == [[5, 4], [3, 2], [1]]


async def test_names_may_hold_slashes(api: httpx.AsyncClient) -> None:
    """A name is one part of the path, encoded, whatever it looks like decoded."""
    odd = "room:a%2Fpublications"
    await api.post(f"/v1/channels/{odd}/publications", json={"id": "1", "data": 1})

    channel = (await api.get(f"/v1/channels/{odd}")).json()
    listed = (await api.get("/v1/channels", params={"prefix": "room:a/"})).json()

    assert (channel["channel"], channel["top"]) == ("room:a/publications", 1)
    assert [c["channel"] for c in listed["channels"]] == ["room:a/publications"]
    assert (await api.get("/v1/counts")).json()["publications"] == 1


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"id": "1", "data": NaN}', "application/json", 400),
        (b'{"id": "1"}', "application/json", 422),
        (b'{"id": "", "data": 1}', "application/json", 422),
        (b'{"id": "1", "data": 1, "x": 1}', "application/json", 422),
        (b'{"id":"1","data":' + b"[" * 50_000, "application/json", 422),
        (b'{"id":"1","data":%b}' % nested(65), "application/json", 422),
        (b'{"id": "1", "data": 1}', "text/plain", 415),
        (b'{"id":"1","data":"%b"}' % (b"x" * 70_000), "application/json", 413),
        (b" " * 4 * limits.PUBLICATION_BYTES_MAX, "application/json", 413),
    ],
)
async def test_bad_bodies_are_refused_with_a_reason(
    api: httpx.AsyncClient, body: bytes, kind: str, status: int
) -> None:
    """As problem JSON, and the server goes on."""
    answer = await api.post(ROOM, content=body, headers={"Content-Type": kind})

    assert answer.status_code == status
    assert answer.json()["detail"]


async def test_data_may_be_nested_to_the_bound_and_is_shown_so(
    api: httpx.AsyncClient, database_url: str
) -> None:
    """What is deeper in the log, from before there was a bound, is shown as bytes."""
    deepest, deeper = nested(limits.JSON_DEPTH_MAX), nested(30_000)
    headers = {"Content-Type": "application/json"}
    for key in "12":
        body = b'{"id":"%b","data":%b}' % (key.encode(), deepest)
        assert (await api.post(ROOM, content=body, headers=headers)).is_success
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE log SET data = $1 WHERE id = '2'", deeper)
    await connection.close()

    page = await api.get(ROOM)

    assert page.status_code == 200
    kept, old = page.json()["publications"]
    assert json.dumps(kept["data"]).encode() == deepest
    assert base64.b64decode(old["data_base64"]) == deeper


async def test_a_key_opens_the_service_api(service: Service) -> None:
    """Without one of the keys nothing is told; the operations routes stay open."""
    async with httpx.AsyncClient(base_url=service.http_url) as client:
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": KEY}):
            answer = await client.get("/v1/counts", headers=headers)
            assert answer.status_code == 401
            assert "WWW-Authenticate" in answer.headers
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200


@pytest.mark.timeout(180)
async def test_schemathesis_finds_nothing(service: Service, tmp_path: Path) -> None:
    """Every operation does what the OpenAPI document says, with all checks on."""
    header = f"--header=Authorization: Bearer {KEY}"

    found = await openapi_attack(service.http_url, tmp_path, header)

    assert not found, found
