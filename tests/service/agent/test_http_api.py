"""The service API of a running agent service, attacked by its own OpenAPI document."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from chatmesh.local.service import Service
from support.instances import Corner
from support.openapi_attack import openapi_attack
from support.service_process import service_process

KEY = "a key"


@pytest.fixture
async def service(
    corner: Corner, database_url: str, tmp_path: Path
) -> AsyncIterator[Service]:
    made = service_process(
        "agent",
        amqp_url=corner.url,
        database_url=database_url,
        prefix=corner.prefix,
        folder=tmp_path,
        settings={"CHATMESH_AGENT_API_KEYS": f"other,{KEY}"},
    )
    await made.start()
    yield made
    await made.stop()


async def test_a_key_opens_the_service_api(service: Service) -> None:
    """Who the agents are and what they do is told to those who have one, and no others."""
    async with httpx.AsyncClient(base_url=service.http_url, timeout=10) as client:
        for headers in ({}, {"Authorization": "Bearer no"}):
            answer = await client.get("/v1/agents", headers=headers)
            assert answer.status_code == 401
        headers = {"Authorization": f"Bearer {KEY}"}
        listed = (await client.get("/v1/agents", headers=headers)).json()
        runs = (await client.get("/v1/runs", headers=headers)).json()

    assert [one["name"] for one in listed["agents"]] == ["helper"]
    assert listed["trouble"] == ""
    assert runs == {"runs": [], "before": None}


async def test_a_run_that_is_not_there_is_said_to_be_unknown(service: Service) -> None:
    """Looking and stopping alike, with a problem document."""
    run = f"/v1/runs/{uuid4()}"
    async with httpx.AsyncClient(
        base_url=service.http_url,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=10,
    ) as client:
        for answer in (await client.get(run), await client.post(f"{run}/stop")):
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"] == "unknown run"


@pytest.mark.timeout(180)
async def test_schemathesis_finds_nothing(service: Service, tmp_path: Path) -> None:
    """Every operation does what the OpenAPI document says, with all checks on."""
    header = f"--header=Authorization: Bearer {KEY}"

    found = await openapi_attack(service.http_url, tmp_path, header)

    assert not found, found
