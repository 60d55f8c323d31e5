"""Tokens: every signature family, every refusal, and expired never mixed with invalid."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any, Protocol, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from chatmesh.gateway.tokens import (
    ConnectionClaims,
    KeyUnknown,
    Override,
    SubscriptionClaims,
    SubscriptionOptions,
    TokenExpired,
    TokenInvalid,
    TokenRules,
    TokenVerifier,
    UnusableKey,
    VerificationKey,
    public_key,
)
from chatmesh.runtime.startup import CannotStart

NOW_S = 1_800_000_000.0
SECRET = "s" * 64
OTHER_SECRET = "o" * 64

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEYS = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
ED_KEY = ed25519.Ed25519PrivateKey.generate()

SIGNERS: dict[str, Any] = {
    "HS256": SECRET,
    "HS384": SECRET,
    "HS512": SECRET,
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA_KEY),
    **EC_KEYS,
    "EdDSA": ED_KEY,
}


class PrivateKey(Protocol):
    def public_key(self) -> PublicKeyTypes: ...


def pem(private: PrivateKey) -> str:
    public = private.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


PUBLIC_KEYS = tuple(pem(key) for key in (RSA_KEY, *EC_KEYS.values(), ED_KEY))


def rules(*secrets: str, **values: object) -> TokenRules:
    """Rules with the usual secret, or with others."""
    hmac_secrets = [SecretStr(secret) for secret in secrets or (SECRET,)]
    return TokenRules.model_validate({"hmac_secrets": hmac_secrets, **values})


VERIFIER = TokenVerifier(rules())


def token(
    claims: dict[str, Any],
    alg: str = "HS256",
    key: object = None,
    headers: dict[str, Any] | None = None,
) -> str:
    return jwt.encode(claims, cast("Any", key) or SIGNERS[alg], alg, headers)


def segment(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def hmac_token(header: object, payload: object, secret: bytes = SECRET.encode()) -> str:
    """A token signed with HMAC-SHA256 whatever its header says, and whatever it holds."""
    signed = f"{segment(header)}.{segment(payload)}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{segment(signature)}"


class FixedKeySet:
    """A key set that already has all it will ever have."""

    def __init__(self, **keys: VerificationKey) -> None:
        self.keys = keys

    def key_for(self, kid: str) -> VerificationKey:
        if kid not in self.keys:
            raise KeyUnknown(kid)
        return self.keys[kid]


# -- Signatures -----------------------------------------------------------------------


@pytest.mark.parametrize("alg", SIGNERS)
def test_every_algorithm_is_verified_by_its_configured_key(alg: str) -> None:
    """A token is believed whichever supported way its issuer signs."""
    verifier = TokenVerifier(rules(public_keys=PUBLIC_KEYS))

    claims = verifier.connection(token({"sub": "ada"}, alg), NOW_S)

    assert ConnectionClaims(user="ada") == claims


@pytest.mark.parametrize("alg", [a for a in SIGNERS if not a.startswith("HS")])
def test_every_public_key_algorithm_is_verified_by_a_key_set(alg: str) -> None:
    """Keys fetched by name verify as configured ones do."""
    keys = FixedKeySet(k1=public_key(SIGNERS[alg].public_key()))
    verifier = TokenVerifier(TokenRules(), keys)

    claims = verifier.connection(
        token({"sub": "ada"}, alg, headers={"kid": "k1"}), NOW_S
    )

    assert claims.user == "ada"


@pytest.mark.parametrize("alg", SIGNERS)
def test_a_token_of_another_key_is_invalid(alg: str) -> None:
    """Somebody else's key of the right kind proves nothing."""
    strangers: dict[str, Any] = {
        "HS": OTHER_SECRET,
        "RS": (stranger := rsa.generate_private_key(65537, 2048)),
        "PS": stranger,
        "ES": ec.generate_private_key(EC_KEYS[alg].curve) if alg in EC_KEYS else None,
        "Ed": ed25519.Ed25519PrivateKey.generate(),
    }
    verifier = TokenVerifier(rules(public_keys=PUBLIC_KEYS))

    with pytest.raises(TokenInvalid, match="signature does not match"):
        verifier.connection(token({"sub": "ada"}, alg, strangers[alg[:2]]), NOW_S)


def test_one_of_several_secrets_is_enough() -> None:
    """While a secret is being replaced, tokens of both are believed."""
    verifier = TokenVerifier(rules(OTHER_SECRET, SECRET))

    assert verifier.connection(token({"sub": "ada"}), NOW_S).user == "ada"


def test_a_key_can_be_named_by_a_file_or_written_on_one_line(tmp_path: Path) -> None:
    """Operators mount keys as files or put them into variables."""
    file = tmp_path / "issuer.pem"
    file.write_text(pem(RSA_KEY))
    one_line = pem(ED_KEY).replace("\n", "\\n")
    verifier = TokenVerifier(TokenRules(public_keys=(str(file), one_line)))

    assert verifier.connection(token({"sub": "ada"}, "RS256"), NOW_S).user == "ada"
    assert verifier.connection(token({"sub": "ada"}, "EdDSA"), NOW_S).user == "ada"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
def test_an_unsigned_token_is_invalid(alg: str) -> None:
    """Nobody becomes somebody by leaving the signature out."""
    unsigned = f"{segment({'alg': alg, 'typ': 'JWT'})}.{segment({'sub': 'ada'})}."

    for verifier in (VERIFIER, TokenVerifier(TokenRules(), FixedKeySet())):
        with pytest.raises(TokenInvalid):
            verifier.connection(unsigned, NOW_S)


@pytest.mark.parametrize("public", PUBLIC_KEYS)
def test_a_public_key_is_no_secret(public: str) -> None:
    """A token signed with HMAC and the text of a public key is invalid."""
    verifier = TokenVerifier(TokenRules(public_keys=(public,)))
    forged = hmac_token({"alg": "HS256"}, {"sub": "ada"}, public.encode())

    with pytest.raises(TokenInvalid, match="no key here"):
        verifier.connection(forged, NOW_S)


def test_a_key_set_never_verifies_hmac() -> None:
    """What everybody may read cannot be what proves who signed."""
    keys = FixedKeySet(k1=public_key(RSA_KEY.public_key()))
    forged = hmac_token({"alg": "HS256", "kid": "k1"}, {}, pem(RSA_KEY).encode())

    with pytest.raises(TokenInvalid, match="no key here"):
        TokenVerifier(TokenRules(), keys).connection(forged, NOW_S)


@pytest.mark.parametrize("alg", ["RS256", "ES384", "EdDSA"])
def test_a_key_verifies_only_its_own_family(alg: str) -> None:
    """A named key that is for another algorithm refuses before it looks."""
    keys = FixedKeySet(k1=public_key(EC_KEYS["ES256"].public_key()))
    signed = token({"sub": "ada"}, alg, headers={"kid": "k1"})

    with pytest.raises(TokenInvalid, match="another way than its key"):
        TokenVerifier(TokenRules(), keys).connection(signed, NOW_S)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_short_secret_works(alg: str) -> None:
    """Deployments that come from elsewhere bring theirs; the gateway warns at start."""
    verifier = TokenVerifier(rules("secret"))

    assert (
        verifier.connection(token({"sub": "ada"}, alg, "secret"), NOW_S).user == "ada"
    )
    with pytest.raises(TokenInvalid, match="signature does not match"):
        verifier.connection(token({"sub": "ada"}, alg, "Secret"), NOW_S)


def test_only_accepted_algorithms_pass() -> None:
    """An operator can narrow what the keys would allow."""
    verifier = TokenVerifier(rules(algorithms=("HS512",)))

    assert verifier.connection(token({"sub": "ada"}, "HS512"), NOW_S)
    with pytest.raises(TokenInvalid, match="not accepted here"):
        verifier.connection(token({"sub": "ada"}, "HS256"), NOW_S)


def test_an_unknown_key_has_to_be_fetched() -> None:
    """The caller hears which key to fetch before it decides anything."""
    verifier = TokenVerifier(rules(), FixedKeySet())
    signed = token({"sub": "ada"}, "RS256", headers={"kid": "k2"})

    with pytest.raises(KeyUnknown) as caught:
        verifier.connection(signed, NOW_S)

    assert caught.value.kid == "k2"


def test_a_token_for_a_key_set_has_to_name_its_key() -> None:
    """Without a name there is no telling which key signed."""
    with pytest.raises(TokenInvalid, match="kid"):
        TokenVerifier(TokenRules(), FixedKeySet()).connection(token({}, "RS256"), NOW_S)


def test_without_keys_no_token_is_believed() -> None:
    """A gateway that was given no key refuses everything."""
    with pytest.raises(TokenInvalid, match="no key here"):
        TokenVerifier(TokenRules()).connection(token({"sub": "ada"}), NOW_S)


# -- Time -----------------------------------------------------------------------------


def test_a_token_is_good_until_the_second_it_expires() -> None:
    """`exp` is the first moment at which it is over."""
    signed = token({"sub": "ada", "exp": NOW_S})

    assert VERIFIER.connection(signed, NOW_S - 0.001)
    with pytest.raises(TokenExpired):
        VERIFIER.connection(signed, NOW_S)


def test_an_expired_token_with_a_bad_signature_is_invalid() -> None:
    """Expired is said only of tokens that were genuine."""
    forged = token({"sub": "ada", "exp": 1}, key=OTHER_SECRET)

    with pytest.raises(TokenInvalid):
        VERIFIER.connection(forged, NOW_S)


def test_an_expired_token_of_another_issuer_is_expired() -> None:
    """Time comes before everything else that the signature covers."""
    verifier = TokenVerifier(rules(issuer="us", audience="chat"))

    with pytest.raises(TokenExpired):
        verifier.connection(token({"exp": 1, "iss": "them", "aud": "else"}), NOW_S)


def test_a_token_before_its_time_is_no_reason_to_stay_away() -> None:
    """Clocks differ: it is refused as one that has expired, at `nbf` it is accepted."""
    signed = token({"sub": "ada", "nbf": NOW_S})

    assert VERIFIER.connection(signed, NOW_S)
    with pytest.raises(TokenExpired, match="not valid yet"):
        VERIFIER.connection(signed, NOW_S - 1)


def test_leeway_forgives_clock_difference_both_ways() -> None:
    """A forgiven token never yields a connection that is over already."""
    verifier = TokenVerifier(rules(leeway_s=30))

    early = verifier.connection(token({"nbf": NOW_S + 29}), NOW_S)
    late = verifier.connection(token({"exp": NOW_S - 29}), NOW_S)

    assert early.expire_at == 0
    assert late.expire_at == NOW_S + 1
    with pytest.raises(TokenExpired):
        verifier.connection(token({"exp": NOW_S - 30}), NOW_S)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({}, 0),
        ({"exp": NOW_S + 60}, int(NOW_S) + 60),
        ({"exp": NOW_S + 60, "expire_at": 0}, 0),
        ({"exp": NOW_S + 60, "expire_at": NOW_S + 3600}, int(NOW_S) + 3600),
        ({"expire_at": NOW_S + 5}, int(NOW_S) + 5),
        ({"exp": NOW_S + 0.5}, int(NOW_S) + 1),
        ({"iat": NOW_S - 5}, 0),
    ],
)
def test_expire_at_bounds_the_connection_instead_of_exp(
    times: dict[str, Any], expected: int
) -> None:
    """`exp` bounds the token; `expire_at`, where given, bounds the connection."""
    assert expected == VERIFIER.connection(token(times), NOW_S).expire_at


def test_a_connection_that_would_be_over_already_is_expired() -> None:
    """The client is told to bring a fresh token rather than to go away."""
    with pytest.raises(TokenExpired):
        VERIFIER.connection(token({"expire_at": NOW_S - 1}), NOW_S)


# -- Issuer and audience --------------------------------------------------------------


@pytest.mark.parametrize("aud", ["chat", ["mail", "chat"]])
def test_a_token_for_us_from_our_issuer_passes(aud: str | list[str]) -> None:
    """An audience may be one name or several."""
    verifier = TokenVerifier(rules(issuer="us", audience="chat"))

    assert verifier.connection(token({"iss": "us", "aud": aud}), NOW_S)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "us"},
        {"iss": "us", "aud": "mail"},
        {"iss": "us", "aud": []},
        {"iss": "us", "aud": "chatter"},
        {"aud": "chat"},
        {"iss": "them", "aud": "chat"},
    ],
)
def test_a_token_from_or_for_somebody_else_is_invalid(claims: dict[str, Any]) -> None:
    """What is configured has to be there and has to be equal."""
    verifier = TokenVerifier(rules(issuer="us", audience="chat"))

    with pytest.raises(TokenInvalid):
        verifier.connection(hmac_token({"alg": "HS256"}, claims), NOW_S)


def test_issuer_and_audience_do_not_matter_unless_configured() -> None:
    """The claims are checked only when somebody says what they should be."""
    assert VERIFIER.connection(token({"iss": "x", "aud": "y"}), NOW_S)


# -- Connection claims ----------------------------------------------------------------


def test_a_connection_token_says_everything_about_its_connection() -> None:
    """All claims of a connection token reach the session."""
    signed = token(
        {
            "sub": "ada",
            "exp": NOW_S + 60,
            "jti": "t-1",
            "info": {"name": "Ada"},
            "channels": ["news"],
            "subs": {
                "room:x": {
                    "info": {"role": "owner"},
                    "data": [1],
                    "override": {"presence": {"value": True}},
                },
                "room:y": None,
            },
            "meta": {"plan": "pro"},
        }
    )

    assert ConnectionClaims(
        user="ada",
        expire_at=int(NOW_S) + 60,
        info=b'{"name":"Ada"}',
        channels=("news",),
        subs={
            "room:x": SubscriptionOptions(
                info=b'{"role":"owner"}', data=b"[1]", override=Override(presence=True)
            ),
            "room:y": SubscriptionOptions(),
        },
        meta=b'{"plan":"pro"}',
        token_id="t-1",
    ) == VERIFIER.connection(signed, NOW_S)


@pytest.mark.parametrize("claims", [{}, {"sub": ""}])
def test_a_token_without_a_user_is_anonymous(claims: dict[str, Any]) -> None:
    """An absent and an empty `sub` mean the same."""
    assert VERIFIER.connection(token(claims), NOW_S).user == ""


def test_info_spread_over_lines_becomes_one_line() -> None:
    """A newline would end the message it is embedded in."""
    spread = hmac_token({"alg": "HS256"}, b'{"info": {\n"a":\n [1,\r\n2]}}')

    assert VERIFIER.connection(spread, NOW_S).info == b'{"a":[1,2]}'


def test_info_may_come_as_base64() -> None:
    """`b64info` wins over `info`, as issuers of this protocol expect."""
    encoded = base64.b64encode(b'{"name": "Ada"}').decode()
    signed = token({"info": {"name": "Bob"}, "b64info": encoded})

    assert VERIFIER.connection(signed, NOW_S).info == b'{"name":"Ada"}'


def test_base64_may_hold_what_is_no_json() -> None:
    """Clients that speak Protobuf have infos and data of any bytes."""
    encoded = base64.b64encode(b"\xff\x00{").decode()
    subscription = {"channel": "room:x", "b64info": encoded, "b64data": encoded}

    connection = VERIFIER.connection(
        token({"b64info": encoded, "subs": {"room:x": {"b64data": encoded}}}), NOW_S
    )
    claims = VERIFIER.subscription(token(subscription), NOW_S)

    assert connection.info == connection.subs["room:x"].data == b"\xff\x00{"
    assert claims.info == claims.data == b"\xff\x00{"


def test_null_info_is_no_info() -> None:
    """JSON null is what many languages write for nothing."""
    signed = token({"info": None, "meta": None, "channel": None})

    assert ConnectionClaims(user="") == VERIFIER.connection(signed, NOW_S)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"ada"',
        b"{",
        b'{"sub": 7}',
        b'{"sub": null}',
        b'{"sub": ["ada"]}',
        b'{"sub": "\\ud800"}',
        b'{"sub": "a\\u0000"}',
        b'{"sub": "\\u0001a"}',
        b'{"sub": "' + b"a" * 256 + b'"}',
        b'{"exp": true}',
        b'{"exp": "1900000000"}',
        b'{"exp": 1e300}',
        b'{"exp": 1e999}',
        b'{"exp": -1}',
        b'{"exp": 9007199254740992}',
        b'{"exp": 99999999999999999999999999}',
        b'{"exp": NaN}',
        b'{"exp": {}}',
        b'{"nbf": "soon"}',
        b'{"nbf": -5}',
        b'{"iat": false}',
        b'{"expire_at": -1}',
        b'{"expire_at": 1e300}',
        b'{"iss": 1}',
        b'{"aud": 1}',
        b'{"aud": [1]}',
        b'{"jti": 1}',
        b'{"channel": "news"}',
        b'{"channel": 5}',
        b'{"channels": "news"}',
        b'{"channels": [1]}',
        b'{"channels": [""]}',
        b'{"channels": ["with blank"]}',
        b'{"subs": ["news"]}',
        b'{"subs": {"": {}}}',
        b'{"subs": {"news": []}}',
        b'{"subs": {"news": {"override": {"presence": true}}}}',
        b'{"subs": {"news": {"override": {"presence": {"value": 1}}}}}',
        b'{"subs": {"news": {"b64data": "*"}}}',
        b'{"b64info": 5}',
        b'{"b64info": "no base64"}',
        b'{"info": {"a": 1e999}}',
        b'{"info": \xff}',
        b'{"info": "\xff"}',
        b"[" * 10_000,
        b'{"info": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
def test_a_signed_token_with_wrong_claims_is_invalid(payload: bytes) -> None:
    """A mistake of the issuer ends in a refusal, not in a crash or a wrong user."""
    with pytest.raises(TokenInvalid):
        VERIFIER.connection(hmac_token({"alg": "HS256"}, payload), NOW_S)


def test_a_refusal_never_quotes_the_token() -> None:
    """What is refused ends in logs and close reasons; secrets must not."""
    private = "very-private-value"
    bad = [
        hmac_token({"alg": "HS256"}, {"sub": {"x": private}}),
        hmac_token({"alg": private}, {"sub": "ada"}),
        hmac_token({"alg": "HS256"}, {"channels": [f"{private} "]}),
        private,
    ]

    for signed in bad:
        with pytest.raises(TokenInvalid) as caught:
            VERIFIER.connection(signed, NOW_S)
        assert private not in str(caught.value)
        assert signed not in str(caught.value)


# -- Subscription claims --------------------------------------------------------------


def test_a_subscription_token_says_everything_about_its_subscription() -> None:
    """All claims of a subscription token reach the session."""
    signed = token(
        {
            "sub": "ada",
            "channel": "room:x",
            "client": "c-1",
            "expire_at": NOW_S + 9,
            "exp": NOW_S + 60,
            "info": {"role": "guest"},
            "b64data": base64.b64encode(b"[1, 2]").decode(),
            "override": {
                "join_leave": {"value": True},
                "force_recovery": {"value": False},
            },
            "jti": "t-2",
        }
    )

    assert SubscriptionClaims(
        user="ada",
        channel="room:x",
        client="c-1",
        expire_at=int(NOW_S) + 9,
        info=b'{"role":"guest"}',
        data=b"[1,2]",
        override=Override(join_leave=True, force_recovery=False),
        token_id="t-2",
    ) == VERIFIER.subscription(signed, NOW_S)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "ada"},
        {"sub": "ada", "channel": ""},
        {"sub": "ada", "channel": 5},
        {"sub": "ada", "channel": None},
        {"sub": "ada", "channel": "x" * 256},
        {"sub": "ada", "channel": "room:x", "client": 5},
        {"sub": 7, "channel": "room:x"},
        {"sub": "ada", "channel": "room:x", "override": []},
    ],
)
def test_a_bad_subscription_token_is_invalid(claims: dict[str, Any]) -> None:
    """A token for no channel opens none; a connection token is not enough."""
    with pytest.raises(TokenInvalid):
        VERIFIER.subscription(hmac_token({"alg": "HS256"}, claims), NOW_S)


def test_an_expired_subscription_token_is_expired() -> None:
    """The same rule as for connections: bring a fresh one."""
    with pytest.raises(TokenExpired):
        VERIFIER.subscription(token({"channel": "room:x", "exp": 1}), NOW_S)


# -- Garbage --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b.c.d",
        "ünïcode",
        "\ud800",
        "\x00",
        f"{segment([])}.{segment({})}.",
        f"{segment({})}.{segment({})}.",
        f"{segment({'alg': None})}.{segment({})}.x",
        f"{segment({'alg': ['HS256']})}.{segment({})}.x",
        f"{segment({'alg': 'HS256', 'kid': 5})}.{segment({})}.x",
        hmac_token({"alg": "HS256", "crit": ["exp"]}, {"sub": "ada"}),
        hmac_token({"alg": "HS256", "b64": False}, {"sub": "ada"}),
        hmac_token({"alg": "HS256", "b64": False, "crit": ["b64"]}, {"sub": "ada"}),
        hmac_token({"alg": "HS1"}, {"sub": "ada"}),
        hmac_token({"alg": "HS256"}, {"sub": "ada"})[:-1],
        hmac_token({"alg": "HS256"}, {"sub": "ada"}) + "A",
        hmac_token({"alg": "HS256"}, {"sub": "ada"}) + ".x",
        "a" * 100_000,
        f"{segment(b'[' * 50_000)}.{segment({})}.x",
    ],
)
def test_garbage_is_invalid(garbage: str) -> None:
    """Whatever a stranger sends as a token ends in one kind of refusal."""
    with pytest.raises(TokenInvalid):
        VERIFIER.connection(garbage, NOW_S)


@given(st.text())
def test_any_text_is_at_most_invalid(text: str) -> None:
    """No text makes the verifier raise anything but a refusal."""
    with pytest.raises(TokenInvalid):
        VERIFIER.connection(text, NOW_S)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
CLAIMS = st.sampled_from(
    [
        "sub",
        "exp",
        "nbf",
        "iat",
        "iss",
        "aud",
        "jti",
        "expire_at",
        "info",
        "b64info",
        "channel",
        "channels",
        "subs",
        "meta",
        "client",
        "data",
        "b64data",
        "override",
    ]
)


@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit"]), JSON))
def test_any_header_is_at_most_invalid(header: dict[str, Any]) -> None:
    """No header passes without the right algorithm, and none crashes."""
    keys = FixedKeySet(k1=public_key(RSA_KEY.public_key()))
    verifier = TokenVerifier(rules(), keys)

    with pytest.raises((TokenInvalid, KeyUnknown)):
        verifier.connection(hmac_token(header, {"sub": "ada"}, b"x" * 32), NOW_S)


@given(claims=st.dictionaries(CLAIMS, JSON))
def test_any_signed_claims_are_read_or_refused(claims: dict[str, Any]) -> None:
    """Claims of any shape yield typed facts or a refusal."""
    signed = hmac_token({"alg": "HS256"}, claims)

    for verify in (VERIFIER.connection, VERIFIER.subscription):
        try:
            said = verify(signed, NOW_S)
        except (TokenInvalid, TokenExpired):
            continue
        assert isinstance(said.user, str)
        assert said.expire_at == 0 or said.expire_at >= NOW_S
        assert b"\n" not in said.info
        assert not said.info or json.loads(said.info) is not None


@given(position=st.integers(min_value=0, max_value=10_000), flip=st.integers(1, 127))
def test_a_changed_token_is_never_believed_as_somebody_else(
    position: int, flip: int
) -> None:
    """Changing any one character of a token yields a refusal or the same claims."""
    signed = token({"sub": "ada", "exp": NOW_S + 60})
    place = position % len(signed)
    changed = chr(ord(signed[place]) ^ flip)
    forged = f"{signed[:place]}{changed}{signed[place + 1 :]}"

    with pytest.raises(TokenInvalid):
        VERIFIER.connection(forged, NOW_S)


# -- Configuration --------------------------------------------------------------------


def test_an_empty_secret_is_refused_at_start() -> None:
    """It would verify what anybody signs with nothing."""
    with pytest.raises(CannotStart, match="empty"):
        TokenVerifier(rules(""))


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----",
        "no-such-file.pem",
        pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),  # noqa: S505 - refused
        pem(ec.generate_private_key(ec.SECP256K1())),
        pem(dsa.generate_private_key(1024)),  # noqa: S505 - refused
    ],
)
def test_an_unusable_public_key_is_refused_at_start(text: str) -> None:
    """One sentence instead of a gateway that believes nobody."""
    with pytest.raises(CannotStart, match="public_keys"):
        TokenVerifier(TokenRules(public_keys=(text,)))


def test_a_private_key_is_no_public_key() -> None:
    """Only the issuer should have the private half."""
    with pytest.raises(UnusableKey):
        public_key(RSA_KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithms": ("none",)},
        {"leeway_s": -1},
        {"jwks_url": "file:///etc/passwd"},
        {"hmac_secret": "x"},
    ],
)
def test_wrong_rules_are_refused(wrong: dict[str, Any]) -> None:
    """Settings that cannot be meant do not start."""
    with pytest.raises(ValidationError):
        TokenRules.model_validate(wrong)


def test_secrets_do_not_show() -> None:
    """Settings are printed in logs and tracebacks; secrets are not."""
    assert SECRET not in repr(rules())
