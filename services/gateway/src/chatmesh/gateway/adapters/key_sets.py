"""The issuer's public keys, fetched from its JSON Web Key Set and kept a while.

Asking is free and immediate (`key_for`); fetching happens only in `refresh`, once for
however many ask, and not more often than the settings say: a flood of tokens that name
unknown keys costs the issuer one request per interval. When the issuer is down, the
keys it published last stay good.
"""

import asyncio
import json
import logging
from typing import Any, Final, cast

import httpx
import jwt

from chatmesh.gateway.tokens import (
    KeyUnknown,
    TokenRules,
    UnusableKey,
    VerificationKey,
    public_key,
)
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks

KEY_SET_BYTES_MAX: Final = 512 * 1024
"""A key set is some kilobytes; anything near this is not one."""

KEYS_MAX: Final = 256

_log = logging.getLogger(__name__)


class KeySetUnreadable(Exception):
    """The issuer answered with something that is no key set; says what."""


_CANNOT_FETCH: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    TimeoutError,
    KeySetUnreadable,
)


class JwksKeySet:
    """The keys behind one `jwks_url`. Close it when the service ends."""

    def __init__(self, rules: TokenRules, clock: Clock) -> None:
        self._url = rules.jwks_url
        self._max_age_s = rules.jwks_max_age_s
        self._interval_s = rules.jwks_interval_s
        self._timeout_s = rules.jwks_timeout_s
        self._clock = clock
        self._client = httpx.AsyncClient(timeout=rules.jwks_timeout_s)
        self._keys: dict[str, VerificationKey] = {}
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._tasks = Tasks()
        self._fetching: asyncio.Task[bool] | None = None

    def key_for(self, kid: str) -> VerificationKey:
        """The key of that name.

        Raises KeyUnknown when there is none, and when the keys are old and may be
        fetched again: verify once more after `refresh`.
        """
        key = self._keys.get(kid)
        if key is None or (self._is_old() and self._may_fetch()):
            raise KeyUnknown(kid)
        return key

    async def refresh(self) -> bool:
        """Fetch the keys, unless that was tried a moment ago. Never raises.

        True means that the keys are the issuer's of this moment: a key that is unknown
        now does not exist. False means that nobody can say (the issuer did not answer,
        or was asked only just before), and the client should come back later.
        """
        if self._fetching is None:
            if not self._may_fetch():
                return False
            self._tried_s = self._clock.monotonic_s()
            self._fetching = self._tasks.spawn(self._fetch(), name="fetch key set")
            self._fetching.add_done_callback(self._fetched)
        # One who gives up waiting must not end the fetch of all the others.
        return await asyncio.shield(self._fetching)

    async def close(self) -> None:
        await self._tasks.stop(self._timeout_s)
        await self._client.aclose()

    def _is_old(self) -> bool:
        if self._fetched_s is None:
            return True
        return self._clock.monotonic_s() - self._fetched_s >= self._max_age_s

    def _may_fetch(self) -> bool:
        if self._tried_s is None:
            return True
        return self._clock.monotonic_s() - self._tried_s >= self._interval_s

    def _fetched(self, task: asyncio.Task[bool]) -> None:
        del task
        self._fetching = None

    async def _fetch(self) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._download()
            keys = parse(body)
        except _CANNOT_FETCH as error:
            _log.warning(
                "key set not fetched; the keys known so far stay good",
                extra={
                    "cause": str(error) or type(error).__name__,
                    "keys": len(self._keys),
                },
            )
            return False
        self._keys = keys
        self._fetched_s = self._clock.monotonic_s()
        return True

    async def _download(self) -> bytes:
        body = bytearray()
        headers = {"accept": "application/jwk-set+json, application/json"}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if response.status_code != httpx.codes.OK.value:
                raise KeySetUnreadable(f"status {response.status_code}")
            async for part in response.aiter_bytes():
                body += part
                if len(body) > KEY_SET_BYTES_MAX:
                    raise KeySetUnreadable(f"over {KEY_SET_BYTES_MAX} bytes")
        return bytes(body)


def parse(body: bytes) -> dict[str, VerificationKey]:
    """The usable signature keys of a key set, by name. Raises KeySetUnreadable.

    Keys without a name, for encryption, or of a kind we do not verify are left out:
    issuers publish keys for others too.
    """
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KeySetUnreadable("not JSON") from error
    if not isinstance(document, dict):
        raise KeySetUnreadable("not a JSON object")
    members = cast("dict[str, object]", document).get("keys")
    if not isinstance(members, list):
        raise KeySetUnreadable("no list of keys in it")
    keys: dict[str, VerificationKey] = {}
    for member in cast("list[object]", members)[:KEYS_MAX]:
        if isinstance(member, dict):
            jwk = cast("dict[str, Any]", member)
            key = _usable(jwk)
            if key is not None:
                keys.setdefault(jwk["kid"], key)
    return keys


def _usable(jwk: dict[str, Any]) -> VerificationKey | None:
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not kid or jwk.get("use", "sig") != "sig":
        return None
    # A set that anybody may read holds no secrets: neither HMAC nor private keys.
    if jwk.get("kty") == "oct" or "d" in jwk:
        return None
    # The material alone says what it is; `alg` may narrow that, never widen it.
    material = {name: value for name, value in jwk.items() if name != "alg"}
    try:
        key = public_key(jwt.PyJWK(material).key)
    except (jwt.PyJWTError, UnusableKey, TypeError, ValueError, KeyError) as error:
        _log.info("key of the key set left out", extra={"cause": type(error).__name__})
        return None
    declared = jwk.get("alg")
    if declared is None:
        return key
    if not isinstance(declared, str) or declared not in key.algorithms:
        return None
    return VerificationKey(frozenset({declared}), key.material)
