"""Which namespaces are trimmed, and the round through all channels."""

from chatmesh.history.metrics import Metrics
from chatmesh.history.retention import Retainer, Rule, rules
from chatmesh.wire.namespaces import NamespaceOptions
from conformance.log import columns
from conformance.memory_log import MemoryLog
from support.history_doubles import QuickClock


def test_namespaces_that_keep_everything_have_no_rule() -> None:
    """Only a size or an age makes one."""
    found = rules(
        {
            "": NamespaceOptions(),
            "room": NamespaceOptions(history_size=10),
            "news": NamespaceOptions(history_age_s=60),
        }
    )

    assert found == [Rule("news", 0, 60), Rule("room", 10, 0)]


async def test_a_round_trims_every_channel_that_has_too_much() -> None:
    """However many steps it takes."""
    log = MemoryLog()
    for name in ("a", "b", "c"):
        await log.append(columns(*((name, str(n), "x") for n in range(10))))
    retainer = Retainer(
        log,
        [Rule("", size=2, age_s=0)],
        my_turn=lambda: True,
        clock=QuickClock(),
        metrics=Metrics(),
        every_s=1,
        step=3,
    )

    await retainer.go_round()

    assert [head.floor for head in await log.heads(["a", "b", "c"])] == [8, 8, 8]


async def test_only_the_replica_whose_turn_it_is_trims() -> None:
    """The others would do the same work again."""
    log = MemoryLog()
    await log.append(columns(("a", "1", "x"), ("a", "2", "x")))
    retainer = Retainer(
        log,
        [Rule("", size=1, age_s=0)],
        my_turn=lambda: False,
        clock=QuickClock(),
        metrics=Metrics(),
        every_s=1,
        step=3,
    )

    await retainer.go_round()

    assert (await log.heads(["a"]))[0].floor == 0


async def test_with_nothing_to_trim_there_is_no_work() -> None:
    """It ends at once instead of going round for ever."""
    retainer = Retainer(
        MemoryLog(),
        [],
        my_turn=lambda: True,
        clock=QuickClock(),
        metrics=Metrics(),
        every_s=1,
        step=3,
    )

    await retainer.run()
