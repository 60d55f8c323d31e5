"""`chatmesh token`: make a token, or read what one says."""

import argparse
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from chatmesh.cli.command import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    CommandError,
    Environ,
)
from chatmesh.runtime.clock import Clock, SystemClock
from chatmesh.wire import channels
from chatmesh.wire.development import DEVELOPMENT_SECRET

SUMMARY: Final = "Make a token for a user, or read what a token says."

SECRET_VARIABLE: Final = "CHATMESH_SECRET"  # noqa: S105 - its name only

_HMAC: Final = ("HS256", "HS384", "HS512")
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_EC: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_ALGORITHMS: Final = (*_HMAC, *_RSA, *_EC.values(), "EdDSA")

_DURATION: Final = re.compile(r"^(\d{1,9})\s*([smhdw]?)$")
_UNIT_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_EXAMPLES: Final = """\
examples:
  chatmesh token --user ada
  chatmesh token --user ada --expires 30d --info '{"name": "Ada"}'
  chatmesh token --user ada --channel room:secret --private-key issuer.pem
  chatmesh token inspect < token.txt
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `chatmesh token` and `chatmesh token inspect`."""
    parser.epilog = _EXAMPLES
    parser.set_defaults(run=make)
    parser.add_argument("--user", help="who it is for; empty is anonymous")
    parser.add_argument(
        "--expires",
        metavar="TIME",
        default="1h",
        help="how long it is good: 90s, 30m, 1h, 7d, or never (default: 1h)",
    )
    parser.add_argument(
        "--channel", help="make it a subscription token, for this channel only"
    )
    parser.add_argument(
        "--subscribe",
        metavar="CHANNEL",
        action="append",
        default=[],
        help="subscribe the connection to this channel from the server's side; repeatable",
    )
    parser.add_argument(
        "--info", metavar="JSON", help="shown to others beside the user"
    )
    parser.add_argument("--issuer", help="the iss claim, for gateways that check it")
    parser.add_argument("--audience", help="the aud claim, for gateways that check it")
    parser.add_argument("--kid", help="name of the key, for gateways with a key set")
    _add_secret(parser)
    parser.add_argument(
        "--private-key",
        metavar="FILE",
        type=Path,
        help="sign with this PEM key instead",
    )
    parser.add_argument("--alg", choices=_ALGORITHMS, help="default: what fits the key")
    commands = parser.add_subparsers(metavar="[inspect]")
    inspecting = commands.add_parser("inspect", help="read what a token says")
    inspecting.set_defaults(run=inspect)
    inspecting.add_argument(
        "token", nargs="?", help="the token; read from standard input when missing"
    )
    _add_secret(inspecting)
    inspecting.add_argument(
        "--public-key", metavar="FILE", type=Path, help="check the signature with this"
    )


def _add_secret(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret",
        help=f"HMAC secret; others on this machine can see it here, so rather set"
        f" {SECRET_VARIABLE}. With no key at all: the development secret",
    )


# -- Making ---------------------------------------------------------------------------


def make(arguments: argparse.Namespace, environ: Environ) -> int:
    """Print one token."""
    if arguments.user is None:
        raise CommandError("--user is missing: whom is the token for?", EXIT_USAGE)
    key, algorithms = _signing_key(arguments, environ)
    algorithm = arguments.alg or algorithms[0]
    if algorithm not in algorithms:
        raise CommandError(
            f"--alg {algorithm} does not fit the key, which is for"
            f" {', '.join(algorithms)}",
            EXIT_USAGE,
        )
    claims = _claims(arguments, SystemClock())
    headers = {"kid": arguments.kid} if arguments.kid else None
    sys.stdout.write(f"{jwt.encode(claims, key, algorithm, headers)}\n")
    return EXIT_OK


def development_token(user: str, expires_s: int, clock: Clock) -> str:
    """A token that gateways in development mode believe, and no others."""
    now_s = clock.unix_ms() // 1000
    claims = {"sub": user, "iat": now_s, "exp": now_s + expires_s}
    return jwt.encode(claims, DEVELOPMENT_SECRET, "HS256")


def seconds_of(text: str) -> int | None:
    """Read `90s`, `30m`, `1h`, `7d`, `2w`; None for `never`. Raises CommandError."""
    if text == "never":
        return None
    found = _DURATION.match(text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise CommandError(
            f"{text!r} is no length of time; say 90s, 30m, 1h, 7d or never", EXIT_USAGE
        )
    return int(found[1]) * _UNIT_S[found[2]]


def _claims(arguments: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    now_s = clock.unix_ms() // 1000
    claims: dict[str, Any] = {"sub": arguments.user, "iat": now_s}
    expires_s = seconds_of(arguments.expires)
    if expires_s is not None:
        claims["exp"] = now_s + expires_s
    if arguments.channel is not None:
        claims["channel"] = _channel(arguments.channel)
        if arguments.subscribe:
            raise CommandError(
                "--channel makes a subscription token, --subscribe a connection token:"
                " choose one",
                EXIT_USAGE,
            )
    if arguments.subscribe:
        claims["channels"] = [_channel(name) for name in arguments.subscribe]
    if arguments.info is not None:
        claims["info"] = _json(arguments.info)
    optional = {"iss": arguments.issuer, "aud": arguments.audience}
    claims.update({claim: value for claim, value in optional.items() if value})
    return claims


def _channel(name: str) -> str:
    if refusal := channels.refusal(name):
        raise CommandError(f"{name!r}: {refusal}", EXIT_USAGE)
    return name


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"--info is not JSON: {error}", EXIT_USAGE) from error


def _signing_key(
    arguments: argparse.Namespace, environ: Environ
) -> tuple[Any, tuple[str, ...]]:
    """The key, and the algorithms it is good for, the usual one first."""
    if arguments.private_key is not None:
        if arguments.secret is not None:
            raise CommandError("--secret or --private-key, not both", EXIT_USAGE)
        return _private_key(arguments.private_key)
    secret = arguments.secret or environ.get(SECRET_VARIABLE)
    if not secret:
        sys.stderr.write(
            "chatmesh: signed with the development secret that everybody knows;"
            " only gateways in development mode believe it\n"
        )
        secret = DEVELOPMENT_SECRET
    return secret, _hmac_algorithms(secret)


def _hmac_algorithms(secret: str) -> tuple[str, ...]:
    """RFC 7518, 3.2: a secret is at least as long as the hash it feeds."""
    size = len(secret.encode())
    fitting = tuple(alg for alg in _HMAC if size * 8 >= int(alg.removeprefix("HS")))
    if not fitting:
        raise CommandError(
            f"a secret of {size} bytes is too short, gateways want at least 32:"
            " `openssl rand -hex 32` makes one",
            EXIT_USAGE,
        )
    return fitting


def _private_key(path: Path) -> tuple[Any, tuple[str, ...]]:
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CommandError(
            f"{path} holds no PEM private key without a password"
        ) from error
    return key, _algorithms_of(key, path)


def _algorithms_of(key: object, path: Path) -> tuple[str, ...]:
    match key:
        case rsa.RSAPrivateKey() | rsa.RSAPublicKey():
            return _RSA
        case ec.EllipticCurvePrivateKey() | ec.EllipticCurvePublicKey() if (
            key.curve.name in _EC
        ):
            return (_EC[key.curve.name],)
        case ed25519.Ed25519PrivateKey() | ed25519.Ed25519PublicKey():
            return ("EdDSA",)
        case _:
            raise CommandError(
                f"{path} holds a key of a kind gateways do not verify:"
                " RSA, ECDSA (P-256, P-384, P-521) or Ed25519 are"
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error


# -- Reading --------------------------------------------------------------------------


def inspect(arguments: argparse.Namespace, environ: Environ) -> int:
    """Print what a token says; 1 when it is over, or not signed by the key given."""
    token = (arguments.token or sys.stdin.read()).strip()
    try:
        parts = jwt.api_jws.decode_complete(token, options={"verify_signature": False})
        claims: object = json.loads(parts["payload"])
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise CommandError("this is no JSON Web Token") from error
    if not isinstance(claims, dict):
        raise CommandError("this is no JSON Web Token: its claims are no object")
    sys.stdout.write(
        json.dumps({"header": parts["header"], "claims": claims}, indent=2) + "\n"
    )
    expires: object = cast("dict[str, object]", claims).get("exp")
    verdicts = [
        _lifetime(expires, SystemClock()),
        _signature(token, arguments, environ),
    ]
    for _, sentence in verdicts:
        sys.stdout.write(f"{sentence}\n")
    return EXIT_OK if all(good for good, _ in verdicts) else EXIT_FAILED


def _lifetime(expires: object, clock: Clock) -> tuple[bool, str]:
    if expires is None:
        return True, "lifetime: never expires"
    if not isinstance(expires, int | float):
        return False, "lifetime: exp is no time"
    try:
        moment = datetime.fromtimestamp(expires, UTC)
    except (ValueError, OverflowError, OSError):
        return False, "lifetime: exp is no time"
    over = moment.timestamp() * 1000 <= clock.unix_ms()
    return not over, f"lifetime: {'EXPIRED at' if over else 'good until'} {moment}"


def _signature(
    token: str, arguments: argparse.Namespace, environ: Environ
) -> tuple[bool, str]:
    key: Any
    if arguments.public_key is not None:
        try:
            key = load_pem_public_key(_read(arguments.public_key))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise CommandError(
                f"{arguments.public_key} holds no PEM public key"
            ) from error
        algorithms = _algorithms_of(key, arguments.public_key)
    else:
        key = arguments.secret or environ.get(SECRET_VARIABLE)
        if not key:
            return True, "signature: not checked (give --secret or --public-key)"
        algorithms = _hmac_algorithms(key)
    try:
        jwt.api_jws.decode_complete(token, key, algorithms=list(algorithms))
    except jwt.PyJWTError:
        return False, "signature: DOES NOT MATCH this key"
    return True, "signature: matches this key"
