"""Fetching an issuer's keys: once for all who ask, bounded, and good while it is away."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import fastapi
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.gateway.adapters.key_sets import (
    KEY_SET_BYTES_MAX,
    JwksKeySet,
    KeySetUnreadable,
    parse,
)
from chatmesh.gateway.tokens import KeyUnknown, TokenRules, TokenVerifier
from chatmesh.runtime.http import HttpServer

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def jwk(kid: str | None, key: Any, **extra: Any) -> dict[str, Any]:  # noqa: ANN401
    algorithm: Any = jwt.get_algorithm_by_name(
        {"RSA": "RS256", "ECP": "ES256", "Ed2": "EdDSA"}[type(key).__name__[:3]]
    )
    public = json.loads(algorithm.to_jwk(key.public_key()))
    return {**public, **({"kid": kid} if kid is not None else {}), **extra}


def key_set(*members: object) -> bytes:
    return json.dumps({"keys": members}).encode()


class ManualClock:
    """Time stands still until the test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return int(self.now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


@dataclass
class Issuer:
    """Publishes a key set on a port of its own; can be slow, or out of order."""

    body: bytes = b""
    status: int = 200
    requests: int = 0
    let_answer: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def app(self) -> fastapi.FastAPI:
        app = fastapi.FastAPI()

        @app.get("/keys")
        async def keys() -> fastapi.Response:
            self.requests += 1
            self.asked.set()
            await self.let_answer.wait()
            return fastapi.Response(self.body, self.status)

        del keys
        return app


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    issuer = Issuer(body=key_set(jwk("k1", RSA_KEY)))
    issuer.let_answer.set()
    server = HttpServer(issuer.app(), "127.0.0.1", 0)
    await server.start()
    issuer.url = f"http://127.0.0.1:{server.port}/keys"
    yield issuer
    issuer.let_answer.set()
    await server.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def keys(issuer: Issuer, clock: ManualClock) -> AsyncGenerator[JwksKeySet]:
    rules = TokenRules(
        jwks_url=issuer.url, jwks_max_age_s=300, jwks_interval_s=10, jwks_timeout_s=2
    )
    keys = JwksKeySet(rules, clock)
    yield keys
    await keys.close()


def is_known(keys: JwksKeySet, kid: str) -> bool:
    try:
        keys.key_for(kid)
    except KeyUnknown:
        return False
    return True


async def test_a_token_is_verified_after_its_key_was_fetched(
    keys: JwksKeySet, issuer: Issuer
) -> None:
    """Unknown at first, known after one refresh, and no more requests after that."""
    verifier = TokenVerifier(TokenRules(jwks_url=issuer.url), keys)
    token = jwt.encode({"sub": "ada"}, RSA_KEY, "RS256", {"kid": "k1"})
    with pytest.raises(KeyUnknown):
        verifier.connection(token, 0)

    assert await keys.refresh()

    assert verifier.connection(token, 0).user == "ada"
    assert verifier.connection(token, 0).user == "ada"
    assert issuer.requests == 1


async def test_many_who_ask_at_once_cost_one_request(
    keys: JwksKeySet, issuer: Issuer
) -> None:
    """A thousand reconnecting clients are one fetch."""
    issuer.let_answer.clear()

    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(keys.refresh()) for _ in range(1000)]
        await issuer.asked.wait()
        issuer.let_answer.set()

    assert all(task.result() for task in waiting)
    assert issuer.requests == 1


async def test_one_who_stops_waiting_does_not_end_the_fetch(
    keys: JwksKeySet, issuer: Issuer
) -> None:
    """A client that hangs up takes nobody's keys away."""
    issuer.let_answer.clear()
    patient = asyncio.ensure_future(keys.refresh())
    impatient = asyncio.ensure_future(keys.refresh())
    await issuer.asked.wait()

    impatient.cancel()
    issuer.let_answer.set()

    assert await patient
    assert is_known(keys, "k1")


async def test_a_flood_of_unknown_keys_costs_one_request_per_interval(
    keys: JwksKeySet, issuer: Issuer, clock: ManualClock
) -> None:
    """Strangers cannot make us attack the issuer; in between nobody can say."""
    assert await keys.refresh()

    assert not any([await keys.refresh() for _ in range(100)])
    clock.now_s += 10
    assert await keys.refresh()

    assert issuer.requests == 2


async def test_a_new_key_is_found_once_it_is_asked_for(
    keys: JwksKeySet, issuer: Issuer, clock: ManualClock
) -> None:
    """An issuer may rotate at any time."""
    await keys.refresh()
    issuer.body = key_set(jwk("k2", EC_KEY))
    clock.now_s += 10
    assert not is_known(keys, "k2")

    await keys.refresh()

    assert is_known(keys, "k2")
    assert not is_known(keys, "k1")


async def test_old_keys_are_fetched_again_before_they_are_believed(
    keys: JwksKeySet, issuer: Issuer, clock: ManualClock
) -> None:
    """A key that the issuer withdrew is gone within the maximal age."""
    await keys.refresh()
    issuer.body = key_set()
    clock.now_s += 300
    assert not is_known(keys, "k1")

    assert await keys.refresh()

    assert not is_known(keys, "k1")


async def test_the_last_good_keys_stay_while_the_issuer_is_down(
    keys: JwksKeySet, issuer: Issuer, clock: ManualClock
) -> None:
    """An outage over there does not log everybody out over here."""
    await keys.refresh()
    issuer.status = 500
    clock.now_s += 1000

    assert not await keys.refresh()

    assert is_known(keys, "k1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b"[" * 20_000,
        b'{"keys": "' + b"x" * KEY_SET_BYTES_MAX + b'"}',
    ],
)
async def test_an_answer_that_is_no_key_set_changes_nothing(
    keys: JwksKeySet, issuer: Issuer, clock: ManualClock, body: bytes
) -> None:
    """A login page, an error, or something endless in place of the keys."""
    await keys.refresh()
    issuer.body = body
    clock.now_s += 10

    assert not await keys.refresh()

    assert is_known(keys, "k1")


async def test_a_redirect_is_not_followed(keys: JwksKeySet, issuer: Issuer) -> None:
    """Keys come from the address that was configured and from nowhere else."""
    issuer.status = 302

    assert not await keys.refresh()


async def test_a_silent_issuer_has_a_deadline(
    issuer: Issuer, clock: ManualClock
) -> None:
    """Clients get an answer although the issuer does not give one."""
    rules = TokenRules(jwks_url=issuer.url, jwks_timeout_s=0.05)
    keys = JwksKeySet(rules, clock)
    issuer.let_answer.clear()

    assert not await keys.refresh()

    await keys.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/keys", "http://[::bad/keys"])
async def test_an_issuer_that_is_not_there_is_no_crash(
    clock: ManualClock, url: str
) -> None:
    """Refused connections and unusable addresses end in `nobody can say`."""
    keys = JwksKeySet(TokenRules(jwks_url=url), clock)

    assert not await keys.refresh()

    await keys.close()


async def test_closing_ends_a_fetch(keys: JwksKeySet, issuer: Issuer) -> None:
    """A stopping gateway does not wait for an issuer."""
    issuer.let_answer.clear()
    waiting = asyncio.ensure_future(keys.refresh())
    await issuer.asked.wait()

    await keys.close()

    await asyncio.wait({waiting})
    assert waiting.cancelled()


# -- Which keys are usable ------------------------------------------------------------


def test_a_key_set_is_read_key_by_key() -> None:
    """Each kind verifies its own algorithms; a declared one narrows them."""
    found = parse(
        key_set(
            jwk("rsa", RSA_KEY),
            jwk("narrow", RSA_KEY, alg="RS512", use="sig"),
            jwk("ec", EC_KEY),
            jwk("ed", ED_KEY),
        )
    )

    assert {kid: sorted(key.algorithms) for kid, key in found.items()} == {
        "rsa": ["PS256", "PS384", "PS512", "RS256", "RS384", "RS512"],
        "narrow": ["RS512"],
        "ec": ["ES256"],
        "ed": ["EdDSA"],
    }


SECRET = base64.urlsafe_b64encode(b"s" * 32).decode()
RSA_PRIVATE: dict[str, Any] = json.loads(
    jwt.get_algorithm_by_name("RS256").to_jwk(RSA_KEY)  # type: ignore[arg-type]
)


@pytest.mark.parametrize(
    "member",
    [
        jwk(None, RSA_KEY),
        jwk("", RSA_KEY),
        jwk("bad", RSA_KEY, use="enc"),
        jwk("bad", RSA_KEY, alg="HS256"),
        jwk("bad", RSA_KEY, alg="none"),
        jwk("bad", RSA_KEY, alg=["RS256"]),
        jwk("bad", EC_KEY, alg="RS256"),
        jwk("bad", EC_KEY, crv="P-999"),
        jwk("bad", EC_KEY, x="AA"),
        {"kid": "bad", "kty": "oct", "k": SECRET},
        {**RSA_PRIVATE, "kid": "bad"},
        {"kid": "bad", "kty": "RSA"},
        {"kid": "bad", "kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kid": "bad", "kty": 5},
        {"kid": "bad"},
        {"kid": 5, "kty": "RSA"},
        {},
        [],
        None,
        "key",
    ],
)
def test_an_unusable_key_is_left_out_and_its_neighbours_stay(member: object) -> None:
    """Issuers publish keys for others too, and sometimes broken ones."""
    assert set(parse(key_set(member, jwk("good", ED_KEY)))) == {"good"}


@given(st.binary(max_size=200))
def test_any_bytes_are_at_most_unreadable(body: bytes) -> None:
    """Whatever answers, a refresh fails in one way."""
    with pytest.raises(KeySetUnreadable):
        parse(body)
