"""Bounds of pages: what is asked, cut to what may be answered."""

from chatmesh.history import paging
from chatmesh.history.ports import PageRead, ReadSpec, Standing
from chatmesh.wire import errors, limits
from chatmesh.wire.messages import Entry, Read


def page(*offsets: int, top: int, floor: int = 0) -> PageRead:
    entries = [Entry(offset, str(offset), b"x") for offset in offsets]
    return PageRead(Standing("e", top, floor), entries)


def test_a_page_never_exceeds_the_servers_limits() -> None:
    """However much was asked for."""
    spec = paging.bounded(Read(1, "a", 0, 1_000_000, bytes_max=1_000_000_000))

    assert spec.limit == limits.PAGE_ENTRIES_MAX
    assert spec.bytes_max == limits.PAGE_BYTES_MAX


def test_reverse_from_nothing_begins_at_the_newest() -> None:
    """`since` 0 in reverse means from the top."""
    spec = paging.bounded(Read(1, "a", 0, 5, reverse=True))

    assert spec == ReadSpec(
        "a", limits.OFFSET_MAX + 1, 5, reverse=True, bytes_max=limits.PAGE_BYTES_MAX
    )


def test_reads_that_make_no_sense_are_refused() -> None:
    """With the protocol's code for a bad request."""
    for read in (
        Read(1, "", 0, 1),
        Read(1, "a b", 0, 1),
        Read(1, "a", -1, 1),
        Read(1, "a", limits.OFFSET_MAX + 1, 1),
        Read(1, "a", 0, -1),
        Read(1, "a", 0, 1, bytes_max=-1),
    ):
        refusal = paging.refuse(read)
        assert refusal is not None
        assert refusal.code == errors.BAD_REQUEST.code
    assert paging.refuse(Read(1, "a", 0, 1)) is None


def test_the_next_page_begins_where_this_one_ends() -> None:
    """And there is none behind the top, or below the floor."""
    forward, backward = Read(1, "a", 0, 2), Read(1, "a", 0, 2, reverse=True)

    assert paging.next_since(forward, page(1, 2, top=3)) == 2
    assert paging.next_since(forward, page(2, 3, top=3)) is None
    assert paging.next_since(forward, page(top=3)) is None
    assert paging.next_since(backward, page(5, 4, top=5, floor=2)) == 4
    assert paging.next_since(backward, page(4, 3, top=5, floor=2)) is None


def test_a_page_of_few_entries_may_be_full_of_infos() -> None:
    """Thirty entries with the largest payload and info exceed what thirty payloads do."""
    reads = [("q", Read(n, "a", 0, 30)) for n in range(17)]

    assert [len(group) for group in paging.groups(reads)] == [8, 8, 1]


def test_reads_are_grouped_so_that_their_pages_fit_into_memory() -> None:
    """Small ones by the hundred, large ones a few at a time, in order."""
    small = [("q", Read(n, "a", 0, 1)) for n in range(200)]
    large = [("q", Read(n, "a", 0, 1000)) for n in range(20)]

    assert [len(group) for group in paging.groups(small)] == [200]
    assert [len(group) for group in paging.groups(large)] == [8, 8, 4]
    assert [read for group in paging.groups(large) for read in group] == large
