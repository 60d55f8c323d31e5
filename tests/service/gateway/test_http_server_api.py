"""The server API's routes: what the OpenAPI document promises, and who may."""

import base64
import json
from pathlib import Path
from typing import Final

import httpx
import pytest
from tests.service.gateway.conftest import Running, StartGateway

from chatmesh.wire import errors
from support.openapi_attack import openapi_attack
from support.scripted_history import ScriptedHistory

KEY: Final = "an-api-key-for-tests"
DEEP: Final = json.loads("[" * 65 + "]" * 65)


async def test_without_configured_keys_there_is_no_api(alone: Running) -> None:
    """No key, an empty key and any key are refused alike."""
    url = f"http://127.0.0.1:{alone.settings.http_port}/api/info"
    answers = [
        await alone.http.post(url),
        await alone.http.post(url, headers={"X-API-Key": ""}),
        await alone.http.post(url, headers={"X-API-Key": KEY}),
        await alone.http.post(f"{url}?api_key="),
    ]

    assert [answer.status_code for answer in answers] == [401] * 4
    codes = {answer.json()["error"]["code"] for answer in answers}
    assert codes == {errors.UNAUTHORIZED.code}


async def test_without_a_broker_the_answer_is_a_temporary_error(
    start_alone: StartGateway,
) -> None:
    """At once, and for every method: nothing is claimed that may not have happened."""
    gateway = await start_alone(api_keys=(KEY,))
    url = f"http://127.0.0.1:{gateway.settings.http_port}/api"
    calls = {
        "publish": {"channel": "room:a", "data": 1},
        "disconnect": {"user": "ada"},
        "channels": {},
        "info": {},
        "history_remove": {"channel": "room:a"},
    }
    async with httpx.AsyncClient(headers={"X-API-Key": KEY}, timeout=10) as http:
        for method, params in calls.items():
            answer = await http.post(f"{url}/{method}", json=params)
            error = answer.json()["error"]

            assert answer.status_code == 200, method
            assert (error["code"], error["temporary"]) == (100, True), method
            assert error["message"]


@pytest.mark.parametrize(
    ("params", "error", "word"),
    [
        (
            {"data": 1, "skip_history": True, "idempotency_key": "k"},
            errors.NOT_AVAILABLE,
            "idempotency_key",
        ),
        (
            {"data": 1, "skip_history": True, "version": 1},
            errors.NOT_AVAILABLE,
            "version",
        ),
        ({"data": DEEP}, errors.BAD_REQUEST, "nested"),
        ({"data": DEEP, "skip_history": True}, errors.BAD_REQUEST, "nested"),
        (
            {
                "data": None,
                "b64data": base64.b64encode(json.dumps(DEEP).encode()).decode(),
            },
            errors.BAD_REQUEST,
            "nested",
        ),
        ({"data": None, "b64data": "AP8="}, errors.BAD_REQUEST, "JSON"),
    ],
)
async def test_what_cannot_be_kept_as_it_is_asked_for_is_refused(
    start_alone: StartGateway,
    params: dict[str, object],
    error: errors.ErrorReply,
    word: str,
) -> None:
    """Before anything is done, and with the reason."""
    gateway = await start_alone(api_keys=(KEY,))
    url = f"http://127.0.0.1:{gateway.settings.http_port}/api/publish"
    async with httpx.AsyncClient(headers={"X-API-Key": KEY}, timeout=10) as http:
        answer = await http.post(url, json={"channel": "room:a", **params})

    told = answer.json()["error"]
    assert told["code"] == error.code
    assert word in told["message"]


@pytest.mark.timeout(180)
async def test_schemathesis_finds_nothing(
    start_gateway: StartGateway, history: ScriptedHistory, tmp_path: Path
) -> None:
    """Every method does what the OpenAPI document says.

    All checks but one: a mistake in a request is an error within a 200, because that is
    how the clients of this API know it.
    """
    assert not history.silent
    gateway = await start_gateway(
        api_keys=(KEY,), read_within_s=0.3, reply_within_s=0.5
    )
    found = await openapi_attack(
        f"http://127.0.0.1:{gateway.settings.http_port}",
        tmp_path,
        "--exclude-checks=negative_data_rejection",
        "--include-path-regex=^/api/",
        f"--header=X-API-Key: {KEY}",
    )

    assert not found, found
