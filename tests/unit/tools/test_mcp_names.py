"""What agents call the tools of an MCP server: legal, and never two by one name."""

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.agent.tools.mcp.connection import agent_names
from chatmesh.wire import tools as wire
from chatmesh.wire.tools import ToolDescription


def test_a_short_plain_name_stays_as_it_is() -> None:
    """People write it into the agents file."""
    assert agent_names("my-files", ["read_file", "who.am.i"]) == {
        "read_file": "my_files__read_file",
        "who.am.i": "my_files__who_am_i",
    }


def test_names_that_differ_behind_the_cut_stay_apart() -> None:
    """Each ends in a digest of the whole, so it is the same whatever else is listed."""
    long = "a" * 80
    names = agent_names("files", [f"{long}_one", f"{long}_two"])
    assert len(set(names.values())) == 2
    assert {len(name) for name in names.values()} == {64}
    assert agent_names("files", [f"{long}_two"])[f"{long}_two"] in names.values()


def test_names_that_differ_in_foreign_letters_stay_apart() -> None:
    """The plain one keeps its name."""
    names = agent_names("files", ["read.file", "read_file", "read/file"])
    assert names["read_file"] == "files__read_file"
    assert len(set(names.values())) == 3


@given(st.lists(st.text(min_size=1, max_size=90), unique=True, max_size=20))
def test_no_two_tools_share_a_name(tools: list[str]) -> None:
    """And every name is one that workers may register."""
    names = agent_names("s", tools)
    assert len(set(names.values())) == len(tools)
    for name in names.values():
        assert not wire.refusal(ToolDescription(name=name))
