"""Who is this, from a signed token: signature first, then time, then everything else.

Two outcomes are never mixed up, because clients act on them: an *expired* token is
replaced and tried again, an *invalid* one ends the connection for good. A token that is
expired and badly signed is invalid.

A key verifies only the algorithms of its own kind, whatever a token's header says, so
no public key can be passed off as an HMAC secret. Time is an argument.
"""

import math
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol, TypeVar

import jwt
import msgspec
import pydantic
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.warnings import InsecureKeyLengthWarning

from chatmesh.gateway.payloads import Unfit, given
from chatmesh.runtime.settings import Section
from chatmesh.runtime.startup import CannotStart
from chatmesh.wire import channels, users

HMAC_ALGORITHMS: Final = frozenset({"HS256", "HS384", "HS512"})
SECRET_BYTES_ADVISED: Final = 32
"""RFC 7518, 3.2 wants a key at least as long as the hash it feeds. Deployments that come
from other servers bring shorter ones, so those work too, and are warned of at start."""

RSA_BITS_MIN: Final = 2048

UNIX_S_MAX: Final = 2**53 - 1
"""Times beyond this are mistakes, not times."""

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class TokenExpired(Exception):
    """A genuine token whose time is over: the client should bring a fresh one."""


class TokenInvalid(Exception):
    """Not a token for us. The message says why and never quotes the token."""


class KeyUnknown(Exception):
    """No key of this name is known yet: refresh the key set and verify again."""

    def __init__(self, kid: str) -> None:
        super().__init__("the token names a key that is not in the key set")
        self.kid = kid


class UnusableKey(ValueError):
    """Key material that verifies nothing; says why and never quotes it."""


class TokenRules(Section):
    """Which tokens are believed. With no secret, key or key set, none is."""

    hmac_secrets: tuple[pydantic.SecretStr, ...] = ()
    """Shared secrets for HS256, HS384 and HS512, best of 32, 48 and 64 bytes or more. Several while one replaces another."""

    public_keys: tuple[str, ...] = ()
    """RSA, ECDSA or Ed25519 public keys: PEM text, or files that hold it."""

    jwks_url: Annotated[str, pydantic.Field(pattern=r"^(https?://.+)?$")] = ""
    """Where the issuer publishes its public keys as a JSON Web Key Set."""

    jwks_max_age_s: Annotated[float, pydantic.Field(gt=0)] = 300.0
    """A key set older than this is fetched again before it is believed."""

    jwks_interval_s: Annotated[float, pydantic.Field(gt=0)] = 10.0
    """At most one fetch in this time, however many unknown keys are named."""

    jwks_timeout_s: Annotated[float, pydantic.Field(gt=0)] = 3.0
    """A fetch that takes longer has failed. SDKs wait 5 s for their connect reply."""

    issuer: str = ""
    """Refuse tokens whose `iss` is another. Empty: any issuer."""

    audience: str = ""
    """Refuse tokens whose `aud` does not name this. Empty: any audience."""

    leeway_s: Annotated[float, pydantic.Field(ge=0, le=300)] = 0.0
    """Clock difference between issuer and gateway that is forgiven in `exp` and `nbf`."""

    algorithms: tuple[Algorithm, ...] = ()
    """Refuse tokens signed in any other way. Empty: whatever the keys allow."""


class Override(msgspec.Struct, frozen=True):
    """Namespace options that a token decides for its channel; None leaves them."""

    presence: bool | None = None
    join_leave: bool | None = None
    force_push_join_leave: bool | None = None
    force_recovery: bool | None = None
    force_positioning: bool | None = None


class SubscriptionOptions(msgspec.Struct, frozen=True):
    """What a connection token says of one server-side subscription."""

    info: bytes = b""
    """Shown to others in this channel: JSON, any bytes that were in base64, or empty."""
    data: bytes = b""
    """For the subscriber, in the subscribe result: as the info may be."""
    override: Override = Override()


NOTHING_SAID: Final = SubscriptionOptions()


class ConnectionClaims(msgspec.Struct, frozen=True):
    """What a connection token says, verified."""

    user: str
    """Empty: anonymous."""
    expire_at: int = 0
    """Unix seconds at which the connection needs a fresh token; 0 is never."""
    info: bytes = b""
    """JSON shown to others, or empty."""
    channels: tuple[str, ...] = ()
    subs: dict[str, SubscriptionOptions] = {}
    meta: bytes = b""
    """JSON that stays on the server, or empty."""
    token_id: str = ""


class SubscriptionClaims(msgspec.Struct, frozen=True):
    """What a subscription token says, verified."""

    user: str
    """Has to be the connection's user."""
    channel: str
    """Has to be the channel asked for."""
    client: str = ""
    """Has to be the connection's client id, unless empty."""
    expire_at: int = 0
    info: bytes = b""
    data: bytes = b""
    override: Override = Override()
    token_id: str = ""


class VerificationKey(msgspec.Struct, frozen=True):
    """Key material, and the only algorithms it may verify."""

    algorithms: frozenset[str]
    material: PublicKey | bytes


class KeySet(Protocol):
    """Public keys by name, fetched from elsewhere by somebody else."""

    def key_for(self, kid: str) -> VerificationKey:
        """The key of that name. Raises KeyUnknown when it has to be fetched first."""
        ...


# -- Keys -----------------------------------------------------------------------------


def secret_key(secret: bytes) -> VerificationKey:
    """An HMAC secret. Raises UnusableKey when there is nothing in it."""
    if not secret:
        raise UnusableKey("an empty secret is none")
    return VerificationKey(HMAC_ALGORITHMS, secret)


def public_key(key: object) -> VerificationKey:
    """A public key, for the algorithms of its family. Raises UnusableKey."""
    match key:
        case rsa.RSAPublicKey():
            if key.key_size < RSA_BITS_MIN:
                raise UnusableKey(
                    f"an RSA key of {key.key_size} bits is too short:"
                    f" it wants at least {RSA_BITS_MIN}"
                )
            return VerificationKey(_RSA, key)
        case ec.EllipticCurvePublicKey() if key.curve.name in _EC:
            return VerificationKey(frozenset({_EC[key.curve.name]}), key)
        case ed25519.Ed25519PublicKey():
            return VerificationKey(frozenset({"EdDSA"}), key)
        case _:
            raise UnusableKey(
                "not an RSA, ECDSA (P-256, P-384, P-521) or Ed25519 public key"
            )


def public_key_from_pem(pem: str) -> VerificationKey:
    """Read PEM text. Raises UnusableKey."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey("no PEM public key") from error
    return public_key(key)


def _keys_of(rules: TokenRules) -> tuple[VerificationKey, ...]:
    try:
        secrets = [
            secret_key(s.get_secret_value().encode()) for s in rules.hmac_secrets
        ]
    except UnusableKey as error:
        raise CannotStart(f"tokens.hmac_secrets: {error}") from error
    return (*secrets, *(_configured_public_key(text) for text in rules.public_keys))


def _configured_public_key(text: str) -> VerificationKey:
    if text.lstrip().startswith("-----BEGIN"):
        # Variables often carry a PEM on one line, its line ends spelled out.
        source, pem = "the PEM text", text.replace("\\n", "\n")
    else:
        source = text
        try:
            pem = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CannotStart(f"tokens.public_keys: cannot read {text}") from error
    try:
        return public_key_from_pem(pem)
    except UnusableKey as error:
        raise CannotStart(f"tokens.public_keys: {source} is {error}") from error


# -- Verification ---------------------------------------------------------------------

Seconds = int | float


class _Registered(msgspec.Struct, frozen=True):
    """Claims that every token may have."""

    sub: str = ""
    exp: Seconds | None = None
    nbf: Seconds | None = None
    iat: Seconds | None = None
    iss: str = ""
    aud: str | list[str] = []
    jti: str = ""
    expire_at: Seconds | None = None
    info: msgspec.Raw = msgspec.Raw(b"")
    b64info: str = ""


class _OverrideValue(msgspec.Struct, frozen=True):
    value: bool


class _Overrides(msgspec.Struct, frozen=True):
    presence: _OverrideValue | None = None
    join_leave: _OverrideValue | None = None
    force_push_join_leave: _OverrideValue | None = None
    force_recovery: _OverrideValue | None = None
    force_positioning: _OverrideValue | None = None

    def decided(self) -> Override:
        return Override(
            presence=_value(self.presence),
            join_leave=_value(self.join_leave),
            force_push_join_leave=_value(self.force_push_join_leave),
            force_recovery=_value(self.force_recovery),
            force_positioning=_value(self.force_positioning),
        )


class _Sub(msgspec.Struct, frozen=True):
    info: msgspec.Raw = msgspec.Raw(b"")
    b64info: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    b64data: str = ""
    override: _Overrides | None = None


class _Connection(_Registered, frozen=True):
    channel: msgspec.Raw = msgspec.Raw(b"")
    channels: list[str] = []
    subs: dict[str, _Sub | None] = {}
    meta: msgspec.Raw = msgspec.Raw(b"")


class _Subscription(_Registered, frozen=True):
    channel: str = ""
    client: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    b64data: str = ""
    override: _Overrides | None = None


_connection = msgspec.json.Decoder(_Connection)
_subscription = msgspec.json.Decoder(_Subscription)


class TokenVerifier:
    """Verifies tokens by fixed keys and, for keys called by name, by a key set.

    Raises CannotStart when a configured key is unusable.
    """

    def __init__(self, rules: TokenRules, key_set: KeySet | None = None) -> None:
        self._rules = rules
        self._keys = _keys_of(rules)
        self._key_set = key_set
        self._jws = jwt.PyJWS()

    def connection(self, token: str, now_s: float) -> ConnectionClaims:
        """Raises TokenInvalid, TokenExpired, or KeyUnknown."""
        said = _decoded(_connection, self._signed_payload(token))
        expire_at = self._check_times(said, now_s)
        self._check_origin(said)
        if bytes(said.channel) not in {b"", b"null", b'""'}:
            raise TokenInvalid("a subscription token (it has a channel) cannot connect")
        if refusal := users.refusal(said.sub):
            # Nobody could be told of such a user, so it is told to them.
            raise TokenInvalid(refusal)
        for channel in (*said.channels, *said.subs):
            _check_channel(channel)
        return ConnectionClaims(
            user=said.sub,
            expire_at=expire_at,
            info=_payload(said.info, said.b64info, "info"),
            channels=tuple(said.channels),
            subs={name: _options(sub or _Sub()) for name, sub in said.subs.items()},
            meta=_payload(said.meta, "", "meta"),
            token_id=said.jti,
        )

    def subscription(self, token: str, now_s: float) -> SubscriptionClaims:
        """Raises TokenInvalid, TokenExpired, or KeyUnknown.

        The caller compares user, channel and client with those of the connection.
        """
        said = _decoded(_subscription, self._signed_payload(token))
        expire_at = self._check_times(said, now_s)
        self._check_origin(said)
        if not said.channel:
            raise TokenInvalid("not a subscription token: it has no channel")
        _check_channel(said.channel)
        return SubscriptionClaims(
            user=said.sub,
            channel=said.channel,
            client=said.client,
            expire_at=expire_at,
            info=_payload(said.info, said.b64info, "info"),
            data=_payload(said.data, said.b64data, "data"),
            override=said.override.decided() if said.override else Override(),
            token_id=said.jti,
        )

    def _signed_payload(self, token: str) -> bytes:
        """The payload, once a key of ours has signed for it."""
        if not token.isascii():
            raise TokenInvalid("not a JSON Web Token")
        try:
            header = self._jws.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise TokenInvalid("not a JSON Web Token") from error
        algorithm = header.get("alg")
        if not isinstance(algorithm, str):
            raise TokenInvalid("the token does not say how it is signed")
        if self._rules.algorithms and algorithm not in self._rules.algorithms:
            raise TokenInvalid("signed in a way that is not accepted here")
        candidates = [key for key in self._keys if algorithm in key.algorithms]
        for key in candidates:
            payload = self._verified(token, key, algorithm)
            if payload is not None:
                return payload
        if self._key_set is not None and not algorithm.startswith("HS"):
            return self._signed_by_key_set(self._key_set, token, header, algorithm)
        if candidates:
            raise TokenInvalid("the signature does not match")
        raise TokenInvalid("signed in a way for which there is no key here")

    def _signed_by_key_set(
        self, key_set: KeySet, token: str, header: dict[str, object], algorithm: str
    ) -> bytes:
        if algorithm == "none":
            raise TokenInvalid("the token is not signed")
        kid = header.get("kid")
        if not isinstance(kid, str) or not kid:
            raise TokenInvalid("the token does not name its key (kid)")
        key = key_set.key_for(kid)
        if algorithm not in key.algorithms:
            raise TokenInvalid("signed in another way than its key is for")
        payload = self._verified(token, key, algorithm)
        if payload is None:
            raise TokenInvalid("the signature does not match")
        return payload

    def _verified(
        self, token: str, key: VerificationKey, algorithm: str
    ) -> bytes | None:
        try:
            parts = self._jws.decode_complete(
                token, key.material, algorithms=[algorithm]
            )
        except jwt.InvalidSignatureError:
            return None
        except (jwt.PyJWTError, InsecureKeyLengthWarning) as error:
            raise TokenInvalid("not a token that can be verified") from error
        return parts["payload"]

    def _check_times(self, said: _Registered, now_s: float) -> int:
        """Raise if it is too late or too early; else say when it will be too late."""
        for name in ("exp", "nbf", "iat", "expire_at"):
            moment: Seconds | None = getattr(said, name)
            if moment is not None and not 0 <= moment <= UNIX_S_MAX:
                raise TokenInvalid(f"{name} is no time")
        leeway_s = self._rules.leeway_s
        if said.exp is not None and now_s >= said.exp + leeway_s:
            raise TokenExpired("the token has expired")
        if said.nbf is not None and now_s + leeway_s < said.nbf:
            # As with one that has expired, another one helps: no reason to stay away.
            raise TokenExpired("the token is not valid yet")
        # `exp` only bounds the token when `expire_at` bounds the connection.
        end = said.exp if said.expire_at is None else said.expire_at
        if not end:
            return 0
        if now_s >= end + leeway_s:
            raise TokenExpired("the connection this token is for has expired")
        return math.ceil(end + leeway_s)

    def _check_origin(self, said: _Registered) -> None:
        rules = self._rules
        if rules.issuer and said.iss != rules.issuer:
            raise TokenInvalid("the token is from another issuer")
        audience = [said.aud] if isinstance(said.aud, str) else said.aud
        if rules.audience and rules.audience not in audience:
            raise TokenInvalid("the token is for another audience")


Said = TypeVar("Said")


def _decoded(decoder: msgspec.json.Decoder[Said], payload: bytes) -> Said:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Names the claim and the type it should have; quotes no value.
        raise TokenInvalid(f"claims: {error}") from error


def _check_channel(channel: str) -> None:
    if refusal := channels.refusal(channel):
        raise TokenInvalid(refusal)


def _options(sub: _Sub) -> SubscriptionOptions:
    return SubscriptionOptions(
        info=_payload(sub.info, sub.b64info, "info"),
        data=_payload(sub.data, sub.b64data, "data"),
        override=sub.override.decided() if sub.override else Override(),
    )


def _value(override: _OverrideValue | None) -> bool | None:
    return override.value if override is not None else None


def _payload(raw: msgspec.Raw, encoded: str, name: str) -> bytes:
    try:
        return given(bytes(raw), encoded, name)
    except Unfit as unfit:
        raise TokenInvalid(str(unfit)) from unfit
