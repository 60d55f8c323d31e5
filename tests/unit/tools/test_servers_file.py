"""The file of MCP servers: what it says, and what is wrong in it, with the line."""

import pytest

from chatmesh.agent.tools.mcp.servers_file import servers
from chatmesh.runtime import settings_file
from chatmesh.runtime.settings_file import SettingsError

GOOD = """
servers:
  files:
    command: [serve-files, /srv]
    read_only: ["read_*"]
    without_approval: [touch]
  tracker:
    url: https://tracker.example/mcp
    headers: {Authorization: Bearer x}
"""


def test_what_the_file_says_of_tools() -> None:
    """Everything needs approval but what is said to be harmless."""
    found = servers(settings_file.parse(GOOD, name="servers.yaml"), {})
    files = found["files"]
    assert files.is_read_only("read_file")
    assert not files.needs_approval("read_file")
    assert files.needs_approval("delete")
    assert not files.needs_approval("touch")
    assert not files.is_read_only("touch")
    assert "Bearer" not in repr(found["tracker"])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("servers:\n  a:\n    url: ftp://x\n", 2, "neither http"),
        ("servers:\n  a:\n    timeout_s: 5\n", 2, "either a command or a url"),
        ("servers:\n  a:\n    url: http://x\n    colour: red\n", 4, "Extra"),
        ("servers:\n  a:\n    url: http://x\n    timeout_s: -1\n", 4, "greater"),
        ("servers:\n  'A b':\n    url: http://x\n", 2, "small letters"),
        ("server:\n  a: {}\n", 1, "did you mean servers"),
        ("servers: [a]\n", 1, "names below it"),
    ],
)
def test_mistakes_have_a_line(text: str, line: int, words: str) -> None:
    """A typo does not start a gateway that serves something else."""
    with pytest.raises(SettingsError) as refused:
        servers(settings_file.parse(text, name="servers.yaml"), {})
    assert f"servers.yaml, line {line}" in str(refused.value)
    assert words in str(refused.value)


KEYS = """
servers:
  near:
    command: [serve]
    env: {KEY: "${NEAR_KEY}", PLAIN: "5 $", BOTH: "${USER_ID}:${NEAR_KEY}"}
  far:
    url: https://far.example/mcp
    headers:
      Authorization: Bearer ${FAR_KEY}
      Template: $${FAR_KEY}
"""


def test_secrets_come_from_variables() -> None:
    """A file that many may read names the variables that hold its keys."""
    environ = {"NEAR_KEY": "n", "FAR_KEY": "f", "USER_ID": "7"}
    found = servers(settings_file.parse(KEYS, name="servers.yaml"), environ)

    assert found["near"].env == {"KEY": "n", "PLAIN": "5 $", "BOTH": "7:n"}
    assert found["far"].headers == {
        "Authorization": "Bearer f",
        "Template": "${FAR_KEY}",
    }
    assert "7:n" not in repr(found["near"])


def test_a_variable_that_is_not_there_has_a_line() -> None:
    """A server is not started with half of its credentials."""
    with pytest.raises(SettingsError) as refused:
        servers(settings_file.parse(KEYS, name="servers.yaml"), {"NEAR_KEY": "n"})

    assert str(refused.value).splitlines() == [
        "servers.yaml, line 5: servers.near.env.BOTH: the variable USER_ID is not set",
        "servers.yaml, line 9: servers.far.headers.Authorization: the variable FAR_KEY"
        " is not set",
    ]
