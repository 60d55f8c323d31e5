"""Whose turn it is."""

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.agent.fairness import Running, Waiting, in_turn, unblocked


def waiting(*runs: str) -> list[Waiting]:
    """Runs written as `room/person`, in the order they came."""
    return [
        Waiting(str(n), "owl", *run.split("/"), created_ms=n)
        for n, run in enumerate(runs)
    ]


def turn(*runs: str, running: tuple[str, ...] = ()) -> list[str]:
    """The numbers of the runs as they are served."""
    pairs = (one.split("/") for one in running)
    busy = [Running("owl", room, person) for room, person in pairs]
    return [one.run for one in in_turn(waiting(*runs), busy)]


def test_who_came_first_is_served_first() -> None:
    """As long as nobody has more than others."""
    assert turn("a/x", "b/y", "c/z") == ["0", "1", "2"]


def test_no_room_waits_for_another_rooms_queue() -> None:
    """A long queue gives way to every other room, in rounds."""
    assert turn("a/1", "a/2", "a/3", "b/4", "c/5") == ["0", "3", "4", "1", "2"]


def test_nobody_waits_for_somebody_who_asks_a_lot() -> None:
    """Within a room people take turns."""
    assert turn("a/x", "a/x", "a/x", "a/y") == ["0", "3", "1", "2"]


def test_somebody_who_asks_in_many_rooms_waits_for_others() -> None:
    """What a person has running counts, wherever it is."""
    assert turn("a/x", "b/y", running=("c/x",)) == ["1", "0"]


def test_what_is_running_counts_for_its_room() -> None:
    """A room that is being served gives way to one that is not."""
    assert turn("a/x", "b/y", running=("a/z",)) == ["1", "0"]


def one_at_a_time(*runs: str, arriving: dict[int, str] | None = None) -> list[str]:
    """The people in the order in which they are served when only one run goes on."""
    queue = waiting(*runs)
    had: list[Running] = []
    served: list[str] = []
    now_ms = len(runs)
    while queue:
        now_ms += 10
        one = in_turn(queue, had)[0]
        queue.remove(one)
        had.append(Running("", one.channel, one.requester, now_ms, over=True))
        served.append(one.requester)
        if arriving and (come := arriving.pop(len(served), "")):
            room, person = come.split("/")
            queue.append(Waiting(f"n{now_ms}", "owl", room, person, now_ms + 1))
    return served


def test_a_turn_that_is_over_was_a_turn() -> None:
    """Where one run goes on at a time, nobody is first again and again."""
    assert one_at_a_time("a/x", "a/x", "a/x", "a/y", "a/z") == list("xyzxx")
    assert one_at_a_time("a/x", "a/x", "a/y", "b/z", "a/x") == list("xzyxx")
    assert one_at_a_time("a/x", "b/x", "c/x", "d/y") == list("xyxx")


def test_who_is_held_back_takes_no_place() -> None:
    """An agent with a long queue and one place leaves the other agents theirs."""
    runs = [
        *(Waiting(f"o{n}", "owl", f"room:{n}", "x", n) for n in range(50)),
        Waiting("f1", "fox", "room:0", "y", 60),
        Waiting("f2", "fox", "room:0", "z", 61),
        Waiting("f3", "fox", "room:1", "z", 62),
    ]
    performed = [Running("fox", "room:1", "x"), Running("", "room:0", "x", over=True)]
    free = unblocked(runs, performed, {"owl": 2, "fox": 5})
    assert [one.run for one in free] == ["o0", "o1", "f1"]
    assert len(unblocked(runs, performed, {})) == 51


def test_who_always_comes_new_passes_nobody_by() -> None:
    """Whoever has had a turn waits anew, but not behind all who will ever come."""
    arriving = {n: f"a/{n}" for n in range(1, 7)}
    served = one_at_a_time("a/x", "a/x", "a/x", "a/x", arriving=arriving)
    assert [n for n, who in enumerate(served) if who == "x"] == [0, 1, 3, 6]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")), max_size=60)
)
def test_everybody_is_served_once_and_rooms_share(pairs: list[tuple[str, str]]) -> None:
    """Nothing is lost, and no room is a round ahead of one that still waits."""
    runs = waiting(*(f"{room}/{person}" for room, person in pairs))
    served = in_turn(runs, [])
    assert sorted(one.run for one in served) == sorted(one.run for one in runs)
    left = {room: sum(1 for one in runs if one.channel == room) for room in "abcd"}
    had = dict.fromkeys("abcd", 0)
    for one in served:
        had[one.channel] += 1
        left[one.channel] -= 1
        assert all(had[one.channel] <= had[room] + 1 for room in "abcd" if left[room])
