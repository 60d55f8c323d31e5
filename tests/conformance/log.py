"""What every log must do: subclass it, give it a `log`, and it says whether it does."""

from collections.abc import Sequence

from chatmesh.history.ports import (
    Attempts,
    Catalogue,
    Columns,
    Fence,
    Log,
    LogRefused,
    PageRead,
    Placed,
    ReadSpec,
    Retention,
    Standing,
)
from chatmesh.history.retention import Rule
from chatmesh.wire import limits


class AnyLog(Log, Catalogue, Attempts, Retention):
    """Everything a log of ours offers."""


def columns(*rows: tuple[str, str, str]) -> Columns:
    """Rows of channel, id and text; the text is its own digest."""
    made = Columns()
    for channel, key, text in rows:
        made.channels.append(channel)
        made.ids.append(key)
        made.digests.append(text.encode())
        made.authors.append("ada")
        made.payloads.append(text.encode())
        made.infos.append(b'{"user":"ada"}')
        made.tags.append('{"k":"v"}' if text == "tagged" else None)
    return made


def fenced(*rows: tuple[str, str, str, int]) -> Columns:
    """Rows of channel, id, text and epoch of the fence `run`; 0 for none."""
    made = columns(*(row[:3] for row in rows))
    for number, (*_, epoch) in enumerate(rows):
        if epoch:
            made.fences[number] = Fence("run", epoch)
    return made


def forward(
    channel: str, since: int = 0, limit: int = 100, bytes_max: int = limits.MIB
) -> ReadSpec:
    return ReadSpec(channel, since, limit, reverse=False, bytes_max=bytes_max)


def backward(
    channel: str,
    since: int = limits.OFFSET_MAX + 1,
    limit: int = 100,
    bytes_max: int = limits.MIB,
) -> ReadSpec:
    return ReadSpec(channel, since, limit, reverse=True, bytes_max=bytes_max)


def offsets(found: PageRead | Sequence[Placed]) -> list[int]:
    items = found.entries if isinstance(found, PageRead) else found
    return [item.offset for item in items]


class LogPromises:
    """Tests of the promises in `history.ports`."""

    async def test_offsets_count_from_one_in_each_channel(self, log: AnyLog) -> None:
        """Dense, ascending, in the order of the rows, each channel for itself."""
        first = await log.append(
            columns(("a", "1", "x"), ("b", "1", "x"), ("a", "2", "y"))
        )
        second = await log.append(columns(("b", "2", "y"), ("a", "3", "z")))

        assert offsets(first) == [1, 1, 2]
        assert offsets(second) == [2, 3]
        assert all(place.known_digest is None for place in first + second)

    async def test_a_known_id_keeps_its_place(self, log: AnyLog) -> None:
        """It comes back with the digest it was stored with, and takes no offset."""
        (first,) = await log.append(columns(("a", "1", "x")))
        again, fresh = await log.append(columns(("a", "1", "other"), ("a", "2", "y")))

        assert (again.offset, again.at_ms) == (first.offset, first.at_ms)
        assert again.known_digest == b"x"
        assert again.info == b'{"user":"ada"}'
        assert fresh.offset == 2
        assert fresh.known_digest is None

    async def test_an_id_belongs_to_its_channel(self, log: AnyLog) -> None:
        """The same id in another channel is another message."""
        placed = await log.append(columns(("a", "1", "x"), ("b", "1", "y")))

        assert [place.known_digest for place in placed] == [None, None]

    async def test_a_batch_that_is_refused_leaves_nothing(self, log: AnyLog) -> None:
        """All or nothing: no offset is used up by what was refused."""
        try:
            await log.append(columns(("a", "1", "x"), ("a", "nul\0", "y")))
        except LogRefused:
            pass
        else:
            raise AssertionError("a NUL cannot be stored")
        (placed,) = await log.append(columns(("a", "2", "z")))

        assert placed.offset == 1

    async def test_what_is_appended_can_be_read(self, log: AnyLog) -> None:
        """Payload, id, author's info, tags and time come back as they were."""
        (placed,) = await log.append(columns(("a", "1", "tagged")))

        (page,) = await log.read([forward("a")])

        (entry,) = page.entries
        assert (entry.offset, entry.id, entry.data) == (1, "1", b"tagged")
        assert entry.info == b'{"user":"ada"}'
        assert entry.tags == {"k": "v"}
        assert entry.at_ms == placed.at_ms
        assert page.standing == Standing(placed.epoch, 1, 0)

    async def test_pages_go_forward_and_back(self, log: AnyLog) -> None:
        """Exclusive of `since`, oldest first forward, newest first in reverse."""
        await log.append(columns(*(("a", str(n), "x") for n in range(1, 10))))

        pages = await log.read(
            [
                forward("a", since=3, limit=2),
                backward("a", since=4, limit=2),
                backward("a", limit=3),
                forward("a", since=9),
                forward("a", limit=0),
            ]
        )

        assert [offsets(page) for page in pages] == [[4, 5], [3, 2], [9, 8, 7], [], []]
        assert {page.standing.top for page in pages} == {9}

    async def test_a_page_ends_at_its_bytes(self, log: AnyLog) -> None:
        """It holds what fits, and at least one entry."""
        rows = columns(*(("a", str(n), "x" * 10) for n in range(1, 6)))
        rows.infos[:] = [None] * 5
        await log.append(rows)

        pages = await log.read(
            [
                forward("a", bytes_max=30),
                forward("a", bytes_max=29),
                forward("a", bytes_max=1),
                backward("a", bytes_max=20),
            ]
        )

        assert [offsets(page) for page in pages] == [[1, 2, 3], [1, 2], [1], [5, 4]]

    async def test_infos_and_tags_weigh_as_much_as_payloads(self, log: AnyLog) -> None:
        """A page is one message, whatever fills it."""
        rows = columns(*(("a", str(n), "x") for n in range(1, 6)))
        rows.infos[:] = [b'"%b"' % (b"x" * 998)] * 4 + [None]
        rows.tags[4] = '{"k": "%s"}' % ("x" * 1000)
        await log.append(rows)

        pages = await log.read(
            [
                forward("a", bytes_max=3500),
                backward("a", bytes_max=1500),
                backward("a", bytes_max=2500),
            ]
        )

        assert [offsets(page) for page in pages] == [[1, 2, 3], [5], [5, 4]]

    async def test_an_unknown_channel_stands_at_zero(self, log: AnyLog) -> None:
        """It has the epoch it will have once something is written to it."""
        (nothing,) = await log.heads(["new"])
        (page,) = await log.read([forward("new")])
        (placed,) = await log.append(columns(("new", "1", "x")))

        assert (nothing.top, nothing.floor) == (0, 0)
        assert page == PageRead(nothing, [])
        assert placed.epoch == nothing.epoch

    async def test_heads_come_in_the_order_asked(self, log: AnyLog) -> None:
        """Repeats and unknown ones included."""
        await log.append(columns(("a", "1", "x"), ("b", "1", "x"), ("b", "2", "y")))

        heads = await log.heads(["b", "none", "a", "b"])

        assert [head.top for head in heads] == [2, 0, 1, 2]

    async def test_channels_are_listed_by_page(self, log: AnyLog) -> None:
        """In name order, behind a name, with a prefix."""
        await log.append(columns(*((name, "1", "x") for name in ("r:b", "r:a", "q"))))

        assert [n for n, _ in await log.channels("", "", 10)] == ["q", "r:a", "r:b"]
        assert [n for n, _ in await log.channels("q", "", 1)] == ["r:a"]
        assert [n for n, _ in await log.channels("", "r:", 10)] == ["r:a", "r:b"]
        assert (await log.counts()) == (3, 3, 3)

    async def test_retention_keeps_the_newest(self, log: AnyLog) -> None:
        """The floor rises, nothing above it is missing, and ids stay known."""
        await log.append(columns(*(("r:a", str(n), "x") for n in range(1, 11))))
        await log.append(columns(("other", "1", "x"), ("other", "2", "x")))
        rules = [Rule("r", size=4, age_s=0)]

        emptied, last = await log.retain(rules, "", channels=100, entries=100)

        (page,) = await log.read([forward("r:a")])
        (again,) = await log.append(columns(("r:a", "1", "x")))
        (untouched,) = await log.heads(["other"])
        assert (emptied, last) == (6, "r:a")
        assert page.standing.floor == 6
        assert offsets(page) == [7, 8, 9, 10]
        assert (again.offset, again.known_digest, again.kept) == (1, b"x", False)
        assert untouched.floor == 0
        assert (await log.counts()).publications == 6

    async def test_retention_goes_in_small_steps(self, log: AnyLog) -> None:
        """No step empties more of a channel than asked; several steps come to the end."""
        await log.append(columns(*(("a", str(n), "x") for n in range(1, 11))))
        rules = [Rule("", size=1, age_s=0)]

        steps = [
            (await log.retain(rules, "", channels=10, entries=4))[0] for _ in range(4)
        ]

        assert steps == [4, 4, 1, 0]
        (page,) = await log.read([forward("a")])
        assert offsets(page) == [10]

    async def test_retention_may_empty_a_channel(self, log: AnyLog) -> None:
        """Then floor is top, and the next entry takes the next offset."""
        await log.append(columns(("a", "1", "x"), ("a", "2", "x")))
        await log.retain([Rule("", size=1, age_s=0)], "", channels=10, entries=10)

        (placed,) = await log.append(columns(("a", "3", "x")))

        (page,) = await log.read([backward("a")])
        assert placed.offset == 3
        assert offsets(page) == [3, 2]

    async def test_a_truncated_channel_goes_on_where_it_was(self, log: AnyLog) -> None:
        """Its entries are gone; offsets, epoch and ids are not."""
        (first, *_) = await log.append(
            columns(*(("a", str(n), "x") for n in range(1, 8)))
        )

        standing = await log.truncate("a")
        again, fresh = await log.append(columns(("a", "1", "x"), ("a", "new", "y")))

        (page,) = await log.read([forward("a")])
        assert standing == Standing(first.epoch, 7, 7)
        assert (again.offset, again.kept, fresh.offset) == (1, False, 8)
        assert offsets(page) == [8]
        assert (await log.truncate("never")) == Standing(first.epoch, 0, 0)

    async def test_who_was_replaced_stores_nothing_new(self, log: AnyLog) -> None:
        """A lower epoch than seen takes no offset; a known id is answered all the same."""
        (first,) = await log.append(fenced(("a", "1", "x", 2)))
        late, plain, next_ = await log.append(
            fenced(("a", "2", "late", 1), ("a", "3", "y", 0), ("a", "4", "z", 2))
        )
        (known,) = await log.append(fenced(("a", "1", "x", 1)))
        (page,) = await log.read([forward("a")])

        assert (first.late, late.late, known.late) == (False, True, False)
        assert (plain.offset, next_.offset, known.offset) == (2, 3, 1)
        assert [entry.id for entry in page.entries] == ["1", "3", "4"]

    async def test_the_highest_epoch_of_a_batch_counts(self, log: AnyLog) -> None:
        """Wherever in the batch it stands; another channel has epochs of its own."""
        placed = await log.append(
            fenced(("a", "1", "x", 1), ("a", "2", "y", 2), ("b", "1", "z", 1))
        )

        assert [place.offset for place in placed] == [0, 1, 1]

    async def test_attempts_count_up_until_the_end(self, log: AnyLog) -> None:
        """A command that went through starts anew."""
        counted = [await log.begin("a", "1") for _ in range(3)]
        await log.begin("a", "2")
        await log.end("a", "1")

        assert counted == [1, 2, 3]
        assert await log.begin("a", "1") == 1
        assert await log.begin("a", "2") == 2
