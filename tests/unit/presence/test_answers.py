"""Who asks is answered, once, completely, and in time."""

import json

import pytest

from chatmesh.presence.answers import PAGE_BYTES_MAX, Answerer
from chatmesh.presence.metrics import Metrics
from chatmesh.runtime import trace_names
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors, limits
from chatmesh.wire.presence import (
    CountsAsk,
    Member,
    MembersAsk,
    PresenceAsk,
    PresenceAsks,
    PresenceCounts,
    PresencePage,
    PresenceUser,
    StatusSet,
    UserAsk,
)
from support.presence_doubles import DirectoryDouble, HandClock, LinkDouble, settled
from support.spans import KeptSpans

ROOM = "room:tea"


class Bench:
    def __init__(self, members: int = 3, info: bytes = b"") -> None:
        crowd = [
            Member(f"c{number:05}", f"u{number:05}", info) for number in range(members)
        ]
        self.directory = DirectoryDouble({ROOM: crowd})
        self.link = LinkDouble()
        self.clock = HandClock()
        self.spans = KeptSpans()
        self.answerer = Answerer(
            directory=self.directory,
            link=self.link,
            tasks=Tasks(),
            metrics=Metrics(),
            clock=self.clock,
            timeout_s=3,
            tracing=self.spans.tracing,
        )

    async def ask(self, *asks: PresenceAsk) -> list[object]:
        self.answerer.hear(PresenceAsks("queue", list(asks)), 0)
        for _ in range(20):
            await settled()
        assert {reply_to for reply_to, _ in self.link.answers} <= {"queue"}
        return [message for _, message in self.link.answers]


async def test_counts() -> None:
    """How many connections, how many users."""
    assert await Bench().ask(CountsAsk(7, ROOM)) == [PresenceCounts(7, ROOM, 3, 3)]


async def test_everyone_comes_in_pages_the_last_of_which_says_so() -> None:
    """A whole room, in messages of bounded size."""
    size = limits.PRESENCE_PAGE_MEMBERS_MAX
    pages = await Bench(members=2 * size + 1).ask(MembersAsk(7, ROOM))

    assert all(isinstance(page, PresencePage) for page in pages)
    told = [page for page in pages if isinstance(page, PresencePage)]
    assert [len(page.members) for page in told] == [size, size, 1]
    assert [page.last for page in told] == [False, False, True]
    assert {page.num_clients for page in told} == {2 * size + 1}


async def test_a_full_last_page_is_the_last() -> None:
    """No empty page follows it."""
    size = limits.PRESENCE_PAGE_MEMBERS_MAX
    (page,) = await Bench(members=size).ask(MembersAsk(7, ROOM))

    assert isinstance(page, PresencePage)
    assert (page.last, page.next_after) == (True, "")


async def test_large_infos_make_smaller_pages() -> None:
    """A page is bounded by bytes too."""
    info = b"x" * (PAGE_BYTES_MAX // 2)
    pages = await Bench(members=5, info=info).ask(MembersAsk(7, ROOM))

    told = [page for page in pages if isinstance(page, PresencePage)]
    assert [len(page.members) for page in told] == [2, 2, 1]


async def test_a_page_that_was_asked_for_says_where_the_next_begins() -> None:
    """By connection or by user."""
    bench = Bench()
    await bench.ask(MembersAsk(1, ROOM, limit=2), MembersAsk(2, ROOM, "c00001", 2))
    await bench.ask(MembersAsk(3, ROOM, limit=2, merged=True))

    pages = {m.request: m for _, m in bench.link.answers if isinstance(m, PresencePage)}
    assert (pages[1].next_after, pages[1].last) == ("c00001", True)
    assert [member.client for member in pages[2].members] == ["c00002"]
    assert pages[2].next_after == ""
    assert pages[3].next_after == "u00001"


async def test_an_empty_channel_is_one_empty_page() -> None:
    """Nobody is a fine answer."""
    (page,) = await Bench().ask(MembersAsk(7, "room:empty"))

    assert page == PresencePage(7, "room:empty")


async def test_a_status_is_set_answered_and_told() -> None:
    """In every channel the user is in."""
    bench = Bench()
    (answer,) = await bench.ask(StatusSet(7, "u00001", "at lunch", do_not_disturb=True))

    assert isinstance(answer, PresenceUser)
    assert (answer.status_text, answer.do_not_disturb) == ("at lunch", True)
    assert [(news.channel, json.loads(news.body)) for news in bench.link.told] == [
        (
            ROOM,
            {
                "type": "status",
                "user": "u00001",
                "text": "at lunch",
                "do_not_disturb": True,
            },
        )
    ]


@pytest.mark.parametrize(
    "ask",
    [
        MembersAsk(7, ""),
        MembersAsk(7, ROOM, "\0"),
        MembersAsk(7, ROOM, limit=-1),
        CountsAsk(7, "no channel"),
        UserAsk(7, ""),
        StatusSet(7, "", "nobody's"),
        StatusSet(7, "ada", "two\nlines"),
    ],
)
async def test_senseless_requests_are_refused(ask: PresenceAsk) -> None:
    """With the code for it and a reason; nothing is changed."""
    bench = Bench()
    (answer,) = await bench.ask(ask)

    assert isinstance(answer, PresencePage | PresenceCounts | PresenceUser)
    assert (answer.request, answer.error_code) == (7, errors.BAD_REQUEST.code)
    assert answer.error_message
    assert not bench.directory.statuses


@pytest.mark.parametrize(
    "ask", [MembersAsk(7, ROOM), CountsAsk(7, ROOM), UserAsk(7, "u"), StatusSet(7, "u")]
)
async def test_without_a_database_the_answer_is_a_temporary_error(
    ask: PresenceAsk,
) -> None:
    """At once; the asker decides whether to try again."""
    bench = Bench()
    bench.directory.away = True
    (answer,) = await bench.ask(ask)

    assert isinstance(answer, PresencePage | PresenceCounts | PresenceUser)
    assert (answer.request, answer.error_code) == (7, errors.INTERNAL.code)


async def test_answers_end_with_their_link() -> None:
    """Who asked asks again; nothing of it is a failure here."""
    bench = Bench()
    bench.link.broken = True

    assert await bench.ask(CountsAsk(7, ROOM)) == []


async def test_what_nobody_waits_for_any_more_is_not_answered() -> None:
    """A request has a deadline of its own."""
    bench = Bench()
    bench.answerer.hear(PresenceAsks("queue", [CountsAsk(7, ROOM)]), 1.0)
    bench.clock.now_s += 2
    await settled()

    assert bench.link.answers == []


async def test_a_traced_question_leaves_a_span_with_what_was_looked_up() -> None:
    """Counts and one page: two statements below the one answer; others leave nothing."""
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    bench = Bench()
    await bench.ask(MembersAsk(7, ROOM, traceparent=context), MembersAsk(8, ROOM))

    answered = bench.spans.all[-1]
    assert (answered.name, answered.parent_id) == (
        trace_names.ANSWER_PRESENCE,
        "b" * 16,
    )
    looked = [one for one in bench.spans.all if one.parent_id == answered.span_id]
    assert [one.name for one in looked] == [trace_names.LOOK_UP_PRESENCE] * 2
    assert len(bench.spans.all) == 3
    assert not answered.failed


async def test_a_refused_question_is_told_as_failed() -> None:
    """Whoever looks at the trace sees that nothing was answered."""
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    bench = Bench()
    await bench.ask(CountsAsk(7, "no channel", traceparent=context))

    (answered,) = bench.spans.all
    assert answered.failed
    assert answered.attributes[trace_names.ERROR_TYPE] == "refused"
