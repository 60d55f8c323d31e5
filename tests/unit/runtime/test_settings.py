"""Settings: file, variables and defaults; what is not known is refused with a hint."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from chatmesh.runtime import settings
from chatmesh.runtime.settings import Section, SettingsError, Shared
from chatmesh.runtime.startup import CannotStart
from chatmesh.wire.namespaces import NamespaceOptions, Who


class Tokens(Section):
    secrets: tuple[SecretStr, ...] = ()
    leeway_s: float = 0.0


class GatewaySettings(Shared):
    port: int = 8001
    development: bool = False
    origins: list[str] = []  # noqa: RUF012 - pydantic copies defaults
    weights: dict[str, int] = {}  # noqa: RUF012 - pydantic copies defaults
    tokens: Tokens = Tokens()
    extra_tokens: Tokens | None = None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "chatmesh.yaml"


def load(path: Path | None = None, /, **environ: str) -> GatewaySettings:
    return settings.load(GatewaySettings, section="gateway", path=path, environ=environ)


def refusal(path: Path | None = None, /, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path, **environ)
    return str(caught.value)


# -- Where a value comes from ---------------------------------------------------------


def test_every_setting_has_a_default() -> None:
    """Nothing has to be configured to start."""
    loaded = load()

    assert loaded.prefix == "chatmesh"
    assert loaded.port == 8001
    assert set(loaded.namespaces) == {"", "room"}
    assert loaded.namespaces["room"].durable


def test_the_file_beats_the_default_and_a_variable_beats_the_file(file: Path) -> None:
    """An operator can override one value of a shared file for one process."""
    file.write_text("prefix: blue\ngateway:\n  port: 8005\n  development: true\n")

    loaded = load(file, CHATMESH_GATEWAY_PORT="8009")

    assert (loaded.prefix, loaded.port, loaded.development) == ("blue", 8009, True)


def test_a_variable_names_the_file(file: Path) -> None:
    """All processes of a deployment find the one file."""
    file.write_text("gateway: {port: 8005}")

    assert load(CHATMESH_CONFIG=str(file)).port == 8005


def test_the_sections_of_other_services_pass_unread(file: Path) -> None:
    """One file serves all services, and each knows only its own section."""
    file.write_text("history:\n  whatever: 1\ngateway:\n  port: 8005\n")

    assert load(file, CHATMESH_HISTORY_WHATEVER="1").port == 8005


def test_a_tool_reads_only_what_is_shared(file: Path) -> None:
    """A command line finds the broker without being a service."""
    file.write_text("amqp_url: amqp://broker/\ngateway:\n  nonsense: 1\n")

    loaded = settings.load(
        Shared, section="", path=file, environ={"CHATMESH_GATEWAY_PORT": "x"}
    )

    assert loaded.amqp_url == "amqp://broker/"


def test_lists_are_written_with_commas_and_maps_as_json() -> None:
    """A variable holds text; these are its two notations for more."""
    loaded = load(
        CHATMESH_GATEWAY_ORIGINS="https://a.example, https://b.example",
        CHATMESH_GATEWAY_WEIGHTS='{"room": 3}',
        CHATMESH_GATEWAY_TOKENS_SECRETS='["with, comma"]',
    )

    assert loaded.origins == ["https://a.example", "https://b.example"]
    assert loaded.weights == {"room": 3}
    assert [s.get_secret_value() for s in loaded.tokens.secrets] == ["with, comma"]


def test_a_variable_reaches_into_a_group_without_losing_its_neighbours(
    file: Path,
) -> None:
    """One leaf from the environment, the rest of its group from the file."""
    file.write_text("gateway:\n  tokens:\n    secrets: [one]\n")

    loaded = load(file, CHATMESH_GATEWAY_TOKENS_LEEWAY_S="2.5")

    assert loaded.tokens.leeway_s == 2.5
    assert len(loaded.tokens.secrets) == 1


def test_a_group_that_may_be_absent_appears_with_its_first_variable() -> None:
    """Setting one leaf of an optional group switches the group on."""
    assert load().extra_tokens is None
    assert load(CHATMESH_GATEWAY_EXTRA_TOKENS_LEEWAY_S="1").extra_tokens == Tokens(
        leeway_s=1
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    """Compose files write `${PORT:-}` for nothing."""
    assert load(CHATMESH_GATEWAY_PORT="", CHATMESH_AMQP_URL="").port == 8001


def test_an_empty_file_and_an_empty_section_are_fine(file: Path) -> None:
    """A file in which everything is commented out says nothing."""
    file.write_text("gateway:\n#  port: 1\n")
    assert load(file).port == 8001

    file.write_text("# nothing\n")
    assert load(file).port == 8001


def test_what_may_hold_a_password_is_not_shown() -> None:
    """Settings end up in logs and tracebacks."""
    shown = repr(
        load(
            CHATMESH_AMQP_URL="amqp://u:hush@h/",
            CHATMESH_DATABASE_URL="postgresql://u:hush@h/",
            CHATMESH_GATEWAY_TOKENS_SECRETS="hush",
        )
    )

    assert "hush" not in shown


# -- What is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gatewy: {}", "line 1: gatewy: unknown key; did you mean gateway?"),
        ("\nprefx: x", "line 2: prefx: unknown key; did you mean prefix?"),
        ("zzz: 1", "line 1: zzz: unknown key"),
        ("gateway:\n  prot: 1", "line 2: gateway.prot: unknown key; did you mean port"),
        (
            "gateway:\n  tokens:\n    leewy_s: 3",
            "line 3: gateway.tokens.leewy_s: unknown key; did you mean leeway_s?",
        ),
        (
            "gateway:\n  port: x",
            "line 2: gateway.port: input should be a valid integer",
        ),
        ("gateway: 3", "line 1: gateway: wants keys of its own"),
        ("gateway:\n  prefix: a", "line 2: gateway.prefix: shared by all services"),
        ("log_level: loud", "line 1: log_level: input should be 'debug'"),
        ("prefix: No!", "line 1: prefix: string should match"),
        ("on: 1", "line 1: a key has to be text; put on in quotes"),
        ("prefix: a\nprefix: b", "line 2: prefix stands here a second time"),
        ("gateway: {port: 1, port: 2}", "port stands here a second time"),
        ("prefix: [", "line 1: "),
        ("- prefix", "wants `key: value` lines"),
        ("a: 1\n---\nb: 1", "expected a single document"),
        ("prefix: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(
    file: Path, text: str, expected: str
) -> None:
    """Whoever wrote it can go straight to the place."""
    file.write_text(text)

    assert expected in refusal(file)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CHATMESH_GATEWAY_PRT", "1", "did you mean CHATMESH_GATEWAY_PORT?"),
        ("CHATMESH_PREFX", "x", "did you mean CHATMESH_PREFIX?"),
        ("CHATMESH_GATEWAY_PORT", "x", "CHATMESH_GATEWAY_PORT: input should be"),
        ("CHATMESH_GATEWAY_WEIGHTS", "{", "CHATMESH_GATEWAY_WEIGHTS: wants JSON"),
        ("CHATMESH_GATEWAY_WEIGHTS", '{"a": "b"}', "CHATMESH_GATEWAY_WEIGHTS: "),
        ("CHATMESH_GATEWAY_PORT", "tcp://10.0.0.1:80", "enableServiceLinks: false"),
        ("CHATMESH_NAMESPACES", '{"room": {"durble": 1}}', "did you mean durable?"),
    ],
)
def test_a_mistake_in_a_variable_is_named(name: str, value: str, expected: str) -> None:
    """The variable is named, not the key it stands for."""
    assert expected in refusal(**{name: value})


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    """One start, one list, one correction."""
    file.write_text("prefx: x\ngateway:\n  prefix: y\n")

    assert len(refusal(file, CHATMESH_NONSENSE="1").splitlines()) == 3


def test_a_refused_secret_is_not_quoted() -> None:
    """A mistake beside a secret must not print the secret."""
    assert "hush" not in refusal(CHATMESH_GATEWAY_TOKENS_SECRETS='[{"hush": 1}]')


@pytest.mark.parametrize(
    "name",
    [
        "CHATMESH_CONFIG",
        "CHATMESH_LOCAL_STATE",
        "CHATMESH_AGENT_MODEL",
        "CHATMESH_WEB_SERVICE_HOST",
        "CHATMESH_WEB_SERVICE_PORT_HTTP",
        "CHATMESH_WEB_PORT_80_TCP_ADDR",
    ],
)
def test_variables_of_others_pass(name: str) -> None:
    """Tools, other services and Kubernetes have variables of their own."""
    assert load(**{name: ""}).port == 8001
    if name != "CHATMESH_CONFIG":
        assert load(**{name: "x"}).port == 8001


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    """A path with a typing error does not start a process with defaults."""
    assert "cannot read" in refusal(tmp_path / "absent.yaml")
    assert "cannot read" in refusal(tmp_path)


def test_a_file_that_is_no_text_is_one_sentence(file: Path) -> None:
    """Something else lies where the settings should be."""
    file.write_bytes(b"\xff\xfe\x00")

    assert "not UTF-8" in refusal(file)


def test_a_refusal_keeps_a_process_from_starting() -> None:
    """`service.run` prints it as one sentence and leaves with 2."""
    assert issubclass(SettingsError, CannotStart)


def test_merged_keys_of_yaml_work(file: Path) -> None:
    """Anchors and `<<` are ordinary YAML; what is merged in may be overridden."""
    file.write_text(
        "namespaces:\n"
        "  room: &usual {history_size: 5, publish: users}\n"
        "  chat:\n    <<: *usual\n    history_size: 7\n"
    )

    namespaces = load(file).namespaces

    assert namespaces["chat"] == NamespaceOptions(history_size=7, publish=Who.USERS)


# -- Namespaces -----------------------------------------------------------------------


def test_namespaces_are_read_with_their_options(file: Path) -> None:
    """Naming any namespace replaces the default ones."""
    file.write_text(
        "namespaces:\n"
        "  '': {durable: false}\n"
        "  room: {history_age_s: 3600, subscribe: everyone}\n"
        "  plain:\n"
    )

    assert load(file).namespaces == {
        "": NamespaceOptions(durable=False),
        "room": NamespaceOptions(history_age_s=3600, subscribe=Who.EVERYONE),
        "plain": NamespaceOptions(),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("room: {histry_size: 1}", "namespaces.room.histry_size: unknown key; did you"),
        ("room: {history_size: -1}", "namespaces.room.history_size: expected `int` >="),
        ("room: {publish: all}", "namespaces.room.publish: invalid enum value"),
        ("room: {subscribe: subscribers}", "namespaces.room.subscribe: subscribers"),
        ("room: {durable: false, cache_recovery: true}", "wants durable"),
        (
            "room: {recover: false, force_recovery: true}",
            "wants durable, recover and positioned",
        ),
        (
            "room: {positioned: false, force_recovery: true}",
            "wants durable, recover and positioned",
        ),
        ("room: 3", "namespaces.room: wants a map"),
        ("'a:b': {}", "namespaces.a:b: no namespace name"),
        ("'$a': {}", "namespaces.$a: no namespace name"),
        ("'a b': {}", "namespaces.a b: no namespace name"),
        ("'a#b': {}", "namespaces.a#b: no namespace name"),
    ],
)
def test_a_wrong_namespace_is_named_with_its_line(
    file: Path, text: str, expected: str
) -> None:
    """A misspelt permission must not silently stay at its default."""
    file.write_text(f"namespaces:\n  {text}\n")

    told = refusal(file)

    assert f"line 2: {expected}" in told or ("line 2: " in told and expected in told)


def test_namespaces_may_come_as_one_variable() -> None:
    """A deployment without a file writes them as JSON."""
    loaded = load(CHATMESH_NAMESPACES='{"room": {"publish": "nobody"}}')

    assert loaded.namespaces == {"room": NamespaceOptions(publish=Who.NOBODY)}


# -- The list of all settings ---------------------------------------------------------


def test_every_leaf_has_its_variable() -> None:
    """The reference and the checks of unknown variables read the same list."""
    found: dict[str, Any] = {
        leaf.key: leaf.variable for leaf in settings.leaves(GatewaySettings, "gateway")
    }

    assert found["amqp_url"] == "CHATMESH_AMQP_URL"
    assert found["gateway.port"] == "CHATMESH_GATEWAY_PORT"
    assert found["gateway.tokens.leeway_s"] == "CHATMESH_GATEWAY_TOKENS_LEEWAY_S"
    assert "gateway.tokens" not in found


def test_no_shared_variable_looks_like_one_of_a_service() -> None:
    """Else a misspelt shared variable could pass as somebody's section."""
    sections = tuple(f"CHATMESH_{section.upper()}_" for section in settings.SECTIONS)

    for leaf in settings.leaves(Shared, ""):
        assert not leaf.variable.startswith(sections)
