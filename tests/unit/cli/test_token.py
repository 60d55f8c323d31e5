"""`chatmesh token`: what it makes is believed by a gateway, what it reads is told."""

import io
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from chatmesh.cli.__main__ import run
from chatmesh.cli.token import development_token, seconds_of
from chatmesh.gateway.tokens import TokenExpired, TokenRules, TokenVerifier
from chatmesh.runtime.clock import SystemClock
from chatmesh.wire.development import DEVELOPMENT_SECRET

SECRET = "s" * 32
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


class Shell:
    """Runs command lines and keeps what they print."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.err = ""

    def __call__(
        self, *words: str, code: int = 0, typed: str = "", **environ: str
    ) -> str:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        try:
            ended = run(words, environ)
        except SystemExit as error:
            ended = error.code
        out, self.err = self._capsys.readouterr()
        assert ended == code, (out, self.err)
        return out


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(capsys, monkeypatch)


def verifier(secret: str = SECRET, *public: str) -> TokenVerifier:
    return TokenVerifier(
        TokenRules(hmac_secrets=(SecretStr(secret),), public_keys=public)
    )


def pem(path: Path, key: Any, password: bytes | None = None) -> Path:  # noqa: ANN401
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return path


# -- Making ---------------------------------------------------------------------------


def test_a_made_token_is_believed_by_a_gateway(shell: Shell) -> None:
    """The user, what others see of them, and when it ends all arrive."""
    printed = shell(
        "token", "--user", "ada", "--expires", "30m", "--secret", SECRET,
        "--info", '{"name": "Ada"}', "--subscribe", "news", "--subscribe", "room:x",
    )  # fmt: skip

    now_s = time.time()
    claims = verifier().connection(printed.strip(), now_s)
    assert claims.user == "ada"
    assert claims.info == b'{"name":"Ada"}'
    assert claims.channels == ("news", "room:x")
    assert now_s + 1790 < claims.expire_at <= now_s + 1800


def test_a_subscription_token_is_for_one_channel(shell: Shell) -> None:
    """With --channel it opens that channel and cannot connect."""
    printed = shell("token", "--user", "ada", "--channel", "room:x", "--secret", SECRET)

    assert verifier().subscription(printed.strip(), time.time()).channel == "room:x"


def test_a_token_may_never_expire(shell: Shell) -> None:
    """For machines that nobody wants to look after."""
    printed = shell("token", "--user", "bot", "--expires", "never", "--secret", SECRET)

    assert verifier().connection(printed.strip(), 9e9).expire_at == 0


def test_a_secret_from_the_environment_is_not_seen_by_others(shell: Shell) -> None:
    """Command lines are visible to everybody on a machine, variables are not."""
    printed = shell("token", "--user", "ada", CHATMESH_SECRET=SECRET)

    assert verifier().connection(printed.strip(), time.time())
    assert shell.err == ""


def test_without_a_key_it_is_the_development_secret_and_says_so(shell: Shell) -> None:
    """The first minute works, and nobody mistakes it for more."""
    printed = shell("token", "--user", "ada")

    assert verifier(DEVELOPMENT_SECRET).connection(printed.strip(), time.time())
    assert "everybody knows" in shell.err


@pytest.mark.parametrize("alg", KEYS)
def test_a_private_key_signs_in_its_own_way(
    shell: Shell, tmp_path: Path, alg: str
) -> None:
    """The algorithm follows from the key."""
    file = pem(tmp_path / "issuer.pem", KEYS[alg])
    public = KEYS[alg].public_key()
    shown = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    printed = shell(
        "token", "--user", "ada", "--private-key", str(file), "--kid", "k1",
        "--issuer", "us", "--audience", "chat",
    ).strip()  # fmt: skip

    assert jwt.get_unverified_header(printed)["kid"] == "k1"
    rules = TokenRules(public_keys=(shown.decode(),), issuer="us", audience="chat")
    assert TokenVerifier(rules).connection(printed, time.time()).user == "ada"


def test_a_development_token_ends(shell: Shell) -> None:
    """Even a token that protects nothing has an end, so that refresh is exercised."""
    made = development_token("ada", 60, SystemClock())

    assert verifier(DEVELOPMENT_SECRET).connection(made, time.time()).user == "ada"
    with pytest.raises(TokenExpired):
        verifier(DEVELOPMENT_SECRET).connection(made, time.time() + 61)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--user is missing"),
        (["--user", "a", "--expires", "soon"], "no length of time"),
        (["--user", "a", "--expires", "0h"], "no length of time"),
        (["--user", "a", "--expires", "-1h"], ""),
        (["--user", "a", "--info", "{"], "not JSON"),
        (["--user", "a", "--secret", "short"], "at least 32"),
        (["--user", "a", "--secret", SECRET, "--alg", "HS512"], "does not fit"),
        (["--user", "a", "--secret", SECRET, "--alg", "RS256"], "does not fit"),
        (["--user", "a", "--secret", SECRET, "--private-key", "x"], "not both"),
        (["--user", "a", "--channel", "no blanks"], "printable ASCII"),
        (["--user", "a", "--channel", "x", "--subscribe", "y"], "choose one"),
        (["--user", "a", "--alg", "none"], "invalid choice"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    shell: Shell, words: list[str], told: str
) -> None:
    """It says what to change, without a traceback."""
    shell("token", *words, code=2)

    assert told in shell.err
    assert "Traceback" not in shell.err


def test_an_unusable_private_key_is_one_sentence(shell: Shell, tmp_path: Path) -> None:
    """Missing, encrypted, of a strange kind, or no key at all."""
    strange = [
        tmp_path / "absent.pem",
        pem(tmp_path / "locked.pem", KEYS["EdDSA"], b"hush"),
        pem(tmp_path / "curve.pem", ec.generate_private_key(ec.SECP256K1())),
        pem(tmp_path / "dsa.pem", dsa.generate_private_key(2048)),
        tmp_path / "text.pem",
    ]
    strange[-1].write_text("hello")

    for path in strange:
        shell("token", "--user", "ada", "--private-key", str(path), code=1)
        assert path.name in shell.err


# -- Reading --------------------------------------------------------------------------


def test_a_token_is_read_and_its_signature_checked(shell: Shell) -> None:
    """What it says, how long it is good, and whether this key signed it."""
    made = shell("token", "--user", "ada", "--secret", SECRET)

    plain = shell("token", "inspect", typed=made)
    checked = shell("token", "inspect", made.strip(), "--secret", SECRET)
    foreign = shell("token", "inspect", made.strip(), code=1, CHATMESH_SECRET="x" * 32)

    assert json.loads(plain[: plain.rindex("}") + 1])["claims"]["sub"] == "ada"
    assert "not checked" in plain
    assert "good until" in plain
    assert "matches this key" in checked
    assert "DOES NOT MATCH" in foreign


def test_a_public_key_checks_a_signature(shell: Shell, tmp_path: Path) -> None:
    """The issuer's public half is enough to tell."""
    private = pem(tmp_path / "issuer.pem", KEYS["ES256"])
    public = tmp_path / "public.pem"
    public.write_bytes(
        KEYS["ES256"]
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    made = shell("token", "--user", "ada", "--private-key", str(private)).strip()

    assert "matches" in shell("token", "inspect", made, "--public-key", str(public))


def test_a_token_that_is_over_is_told_and_fails(shell: Shell) -> None:
    """A script can ask whether a token is still good."""
    over = jwt.encode({"sub": "ada", "exp": 1}, SECRET)
    never = jwt.encode({"sub": "ada"}, SECRET)
    odd = jwt.encode({"sub": "ada", "exp": 1e300}, SECRET)

    assert "EXPIRED at 1970" in shell("token", "inspect", over, code=1)
    assert "never expires" in shell("token", "inspect", never)
    assert "no time" in shell("token", "inspect", odd, code=1)


@pytest.mark.parametrize("garbage", ["", "abc", "a.b.c", "e30.W10.", "e30.eA.x"])
def test_what_is_no_token_is_one_sentence(shell: Shell, garbage: str) -> None:
    """Nothing that was pasted ends in a traceback."""
    shell("token", "inspect", typed=garbage, code=1)

    assert "no JSON Web Token" in shell.err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800),
     ("2W", 1_209_600), ("never", None)],
)  # fmt: skip
def test_lengths_of_time_are_read(text: str, seconds: int | None) -> None:
    """As people write them."""
    assert seconds_of(text) == seconds


def test_help_says_what_there_is(shell: Shell) -> None:
    """Every command, in one line each; none is a usage error."""
    printed = shell("--help")
    shell(code=2)

    assert "chat" in printed
    assert "token" in printed
    assert "examples:" in shell("token", "--help")
