"""A package's SQL, read once, with ends that several statements share."""

from pathlib import Path

import pytest

from chatmesh.postgres.statements import statements

PACKAGE = "statements_of_a_test"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two statements that end alike, one by itself, and something else."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name in ("find", "take", "end", "last"):
        (folder / f"{name}.sql").write_text(f"-- {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    return PACKAGE


def test_a_statement_is_the_text_of_its_file(package: str) -> None:
    """Whatever others share, it stands alone where nothing is named for it."""
    query = statements(package, {"take": ["end"]})
    assert query("find") == "-- find\n"
    assert query("end") == "-- end\n"


def test_a_statement_goes_on_with_what_is_named_in_that_order(package: str) -> None:
    """Several may share an end, and one may have more of them."""
    query = statements(package, {"find": ["end"], "take": ["end", "last"]})
    assert query("find") == "-- find\n\n-- end\n"
    assert query("take") == "-- take\n\n-- end\n\n-- last\n"


@pytest.mark.parametrize("name", ["nothing", "__init__"])
def test_what_is_no_statement_is_an_error(package: str, name: str) -> None:
    """A name that nobody wrote, and files of other kinds."""
    with pytest.raises(KeyError):
        statements(package)(name)
