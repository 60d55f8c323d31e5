"""Where state is kept, and who can get there."""

from pathlib import Path

from chatmesh.local import places


def test_state_lies_in_the_checkout(tmp_path: Path) -> None:
    """One folder, known to .gitignore, that `make clean` removes."""
    found = places.places(tmp_path / "checkout", fallback=tmp_path / "var")

    assert found.state == tmp_path / "checkout" / ".chatmesh"
    assert found.state.is_dir()
    assert found.shared.is_dir()


def test_a_closed_parent_closes_the_folder(tmp_path: Path) -> None:
    """As /root does for everything in it."""
    closed = tmp_path / "closed"
    inner = closed / "inner"
    inner.mkdir(parents=True)
    closed.chmod(0o700)

    assert not places.is_open_to_others(inner)


def test_programs_are_copied_to_where_their_user_can_reach_them(
    tmp_path: Path,
) -> None:
    """Once; the second time the copy is there."""
    top = tmp_path / "closed"
    for name in ("package/server", "libraries/library"):
        file = top / name
        file.parent.mkdir(parents=True)
        file.write_text("#!")
    top.chmod(0o700)
    shared = tmp_path / "shared"
    shared.mkdir()
    sources = [top / "package", top / "libraries"]

    copy = places.reachable_copy(sources, top, shared, "nobody")
    (copy / "mark").touch()
    again = places.reachable_copy(sources, top, shared, "nobody")

    assert (copy / "package" / "server").read_text() == "#!"
    assert (copy / "libraries" / "library").exists()
    assert (again / "mark").exists()


def test_nothing_is_copied_for_ourselves(tmp_path: Path) -> None:
    """Whoever is not root runs the programs where they are."""
    shared = tmp_path / "shared"

    assert places.reachable_copy([tmp_path], tmp_path, shared, None) == tmp_path
