"""The service API of a running presence, attacked by its own OpenAPI document."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from chatmesh.local.service import Service
from support.eventually import eventually
from support.openapi_attack import openapi_attack
from support.presence_side import ReporterSide
from support.replicas import Replicas

KEY = "a key"


@pytest.fixture
async def service(replicas: Replicas) -> Service:
    return await replicas.start({"CHATMESH_PRESENCE_API_KEYS": f"other,{KEY}"})


@pytest.fixture
async def api(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=service.http_url,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=10,
    ) as client:
        yield client


async def test_channels_and_members_are_listed(
    api: httpx.AsyncClient, side: ReporterSide, other: ReporterSide
) -> None:
    """By connection and by user, in pages, with the infos as they are shown."""
    await side.join("room:0", "a1", "ada", b'{"name": "Ada"}')
    await other.join("room:0", "a2", "ada", b"\x00 binary")
    await other.join("room:1", "x1")
    await side.hears("room:0", "join ada/a1")
    await side.hears("room:1", "join /x1")

    channels = (await api.get("/v1/channels?prefix=room:")).json()
    channel = (await api.get("/v1/channels/room:0")).json()
    members = (await api.get("/v1/channels/room:0/members")).json()
    people = (await api.get("/v1/channels/room%3A0/members?merged=true")).json()
    first = (await api.get("/v1/channels/room:0/members?limit=1")).json()
    second = (
        await api.get(f"/v1/channels/room:0/members?limit=1&after={first['after']}")
    ).json()
    totals = (await api.get("/v1/counts")).json()

    assert channels == {
        "channels": [
            {"channel": "room:0", "num_clients": 2, "num_users": 1},
            {"channel": "room:1", "num_clients": 1, "num_users": 1},
        ],
        "after": None,
    }
    assert channel == channels["channels"][0]
    assert [m["conn_info"] for m in members["members"]] == [{"name": "Ada"}, None]
    assert [(m["user"], m["connections"]) for m in people["members"]] == [("ada", 2)]
    assert [first["members"][0]["client"], second["members"][0]["client"]] == [
        "a1",
        "a2",
    ]
    assert second["after"] is None
    assert totals == {"channels": 2, "connections": 3, "users": 2}


async def test_people_of_any_name_are_paged(
    api: httpx.AsyncClient, side: ReporterSide
) -> None:
    """What a page gives to go on with is taken, in whatever script."""
    names = ["Zoë", "ok", "李", ""]
    for number, name in enumerate(names):
        await side.join("room:0", f"c{number}", name)
    joins = [f"join {name}/c{number}" for number, name in enumerate(names)]
    await side.hears("room:0", *joins)

    found: list[str] = []
    after: str | None = ""
    while after is not None:
        asked = {"merged": "true", "limit": "1", "after": after}
        answer = await api.get("/v1/channels/room:0/members", params=asked)
        assert answer.status_code == httpx.codes.OK, answer.text
        page = answer.json()
        found += [member["user"] for member in page["members"]]
        after = page["after"]

    assert sorted(found) == sorted(names)


async def test_a_status_is_set_and_told(
    api: httpx.AsyncClient, side: ReporterSide
) -> None:
    """Where the user is, and to whoever asks."""
    await side.join("room:0", "a1", "ada")
    await side.hears("room:0", "join ada/a1")
    status = {"text": "at lunch", "do_not_disturb": True}

    answer = await api.put("/v1/users/ada/status", json=status)
    there = (await api.get("/v1/users/ada")).json()

    await side.hears("room:0", "join ada/a1", "ada says 'at lunch'")
    assert answer.status_code == 200
    for told in (answer.json(), there):
        assert told["online"]
        assert told["channels"] == ["room:0"]
        assert (told["status_text"], told["do_not_disturb"]) == ("at lunch", True)


async def test_a_user_who_left_was_seen(
    api: httpx.AsyncClient, side: ReporterSide
) -> None:
    """Last seen outlives the connection; who was never here was never seen."""
    await side.join("room:0", "a1", "ada/1")
    await side.leave("room:0", "a1", clean=True)
    await side.hears("room:0", "join ada/1/a1", "leave ada/1/a1")

    left = (await api.get("/v1/users/ada%2F1")).json()
    nobody = (await api.get("/v1/users/nobody")).json()

    assert not left["online"]
    assert left["last_seen_ms"] > 0
    assert nobody["last_seen_ms"] == 0


async def test_only_holders_of_a_key_are_served(service: Service) -> None:
    """The operations routes are open; everything else wants a key."""
    async with httpx.AsyncClient(base_url=service.http_url, timeout=10) as stranger:
        without = await stranger.get("/v1/counts")
        wrong = await stranger.get(
            "/v1/counts", headers={"Authorization": "Bearer guess"}
        )
        live = await stranger.get("/livez")
        ready = await stranger.get("/readyz")
        metrics = await stranger.get("/metrics")

    assert without.status_code == wrong.status_code == 401
    assert without.headers["www-authenticate"] == "Bearer"
    assert live.status_code == ready.status_code == 200
    assert set(ready.json()["checks"]) == {"broker", "database", "partitions"}
    assert "chatmesh_presence_partitions 16.0" in metrics.text


async def test_metrics_name_nobody(api: httpx.AsyncClient, side: ReporterSide) -> None:
    """No channel, user or connection is a label."""
    await side.join("room:0", "client-of-ada", "ada-of-the-room")
    await side.hears("room:0", "join ada-of-the-room/client-of-ada")

    async def counted() -> bool:
        text = (await api.get("/metrics")).text
        assert "room:0" not in text
        assert "ada" not in text
        return "chatmesh_presence_connections 1.0" in text

    await eventually(counted)


MISTAKES: tuple[tuple[str, str, dict[str, str] | None], ...] = (
    ("GET", "/v1/channels/no%20channel", None),
    ("GET", "/v1/channels/room:0/members?limit=0", None),
    ("GET", "/v1/channels/room:0/members?after=%00", None),
    ("GET", "/v1/users/%00", None),
    ("GET", "/v1/users/%FF", None),
    ("PUT", "/v1/users/ada/status", {"text": "x" * 201}),
    ("PUT", "/v1/users/ada/status", {"txt": "typo"}),
    ("PUT", "/v1/users/ada/status", {"text": "two\nlines"}),
)


async def test_mistakes_are_explained(api: httpx.AsyncClient) -> None:
    """With a problem document that says what is wrong."""
    for method, path, body in MISTAKES:
        answer = await api.request(method, path, json=body)

        assert answer.status_code == 422, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


@pytest.mark.timeout(180)
async def test_schemathesis_finds_nothing(service: Service, tmp_path: Path) -> None:
    """Every operation does what the OpenAPI document says, with all checks on."""
    header = f"--header=Authorization: Bearer {KEY}"

    found = await openapi_attack(service.http_url, tmp_path, header)

    assert not found, found
