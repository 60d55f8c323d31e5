"""A settings file: values, and the line of every one of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.runtime.settings_file import Document, SettingsError, parse, read

TEXT = """\
# a comment
prefix: blue

gateway:
  port: 8001
  tokens: {leeway_s: 1}
"""


def test_values_and_lines_are_read_together() -> None:
    """Whatever is wrong with a value later, its line is still known."""
    document = parse(TEXT, name="mesh.yaml")

    assert document.values == {
        "prefix": "blue",
        "gateway": {"port": 8001, "tokens": {"leeway_s": 1}},
    }
    assert document.place(("prefix",)) == "mesh.yaml, line 2"
    assert document.place(("gateway", "port")) == "mesh.yaml, line 5"
    assert document.place(("gateway", "tokens", "leeway_s")) == "mesh.yaml, line 6"


def test_what_is_not_there_is_placed_where_it_would_be() -> None:
    """A missing key is looked for around its neighbours."""
    document = parse(TEXT, name="mesh.yaml")

    assert document.place(("gateway", "absent", "deep")) == "mesh.yaml, line 4"
    assert document.place(("absent",)) == ""
    assert Document().place(("gateway",)) == ""


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_a_file_that_says_nothing_is_empty(text: str) -> None:
    """Everything commented out is a way to say: as usual."""
    assert not parse(text, name="mesh.yaml").values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: 2", "line 2"),
        ("a: 1\na: 2", "line 2: a stands here a second time"),
        ("b: {c: 1,\n c: 2}", "line 2: c stands here a second time"),
        ("1: x", "put 1 in quotes"),
        ("just text", "`key: value`"),
        ("a: \x00", "special characters"),
        ("a: 2026-99-99", "month must be in 1..12"),
        ("a: " + "[" * 5000, "recursion"),
        ("a: &x {b: *x}", "recursi"),
    ],
)
def test_what_is_no_settings_file_is_told_with_its_line(text: str, told: str) -> None:
    """Somebody is going to open it in an editor."""
    with pytest.raises(SettingsError, match=r"mesh\.yaml") as caught:
        parse(text, name="mesh.yaml")

    assert told in str(caught.value)


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    """Not there, a folder, or no text."""
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xff")

    for path in (tmp_path / "absent.yaml", tmp_path, binary):
        with pytest.raises(SettingsError, match=path.name):
            read(path)


@given(st.text(alphabet="ab:-[]{}&*!|>#'\"\\\n\t ,?1~<%@`\x00\u2028", max_size=60))
def test_any_text_is_read_or_refused_in_one_way(text: str) -> None:
    """Nothing an editor can save makes a process end with a traceback."""
    told = "mesh.yaml"
    try:
        assert isinstance(parse(text, name="mesh.yaml").values, dict)
    except SettingsError as error:
        told = str(error)

    assert told.startswith("mesh.yaml")
