"""What is broken, how, and what has to hold while it is: one function per scenario.

Each is played on a whole mesh under load. Whatever it asserts comes on top of what the
checker decides at the end of every one of them.
"""

import asyncio
import dataclasses
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from chaos import agent_scenarios as agents
from chaos import cluster, planted_bug, sdk
from chaos.chronicle import Attempt, Message, Outcome
from chaos.client import CONFLICT, Client, Habits
from chaos.scene import ASK_EVERY_S, IN_FLIGHT_MAX, LOOK_EVERY_S, Fault, Pace, Scene
from chaos.stage import Shape, resident_bytes
from chaos.wires import FarWire
from chatmesh.local.service import Service
from chatmesh.runtime.service_settings import PartitionedSettings
from chatmesh.wire import limits, topics

TESTS: Final = Path(__file__).parents[1]
MIB: Final = 1024 * 1024
CRASH_POINTS: Final = (
    "history.received",
    "history.committed",
    "history.published",
    "history.replied",
    "history.acked",
)
"""In the order in which a batch passes them."""
LEASE_S: Final[float] = PartitionedSettings.model_fields["lease_s"].default
SHORT_LEASE: Final = {"CHATMESH_HISTORY_LEASE_S": "3", "CHATMESH_HISTORY_TICK_S": "0.5"}
"""Where history dies several times in one scenario, its successor waits half as long."""
BURIED_WITHIN_S: Final = 120.0
"""A deadly message kills one after the other, and each has to start again first."""
READY_WITHIN_S: Final = 30.0
CONSUMERS_WITHIN_S: Final = 120.0
"""No machine explains a queue without its consumer after that."""
COUNTED_WITHIN_S: Final = 30.0
ANSWER_DEADLINE_S: Final = 5.5
"""The gateway answers by 4 s, SDKs give up at 5 s, and we may hear of it a little late."""
LATE_SHARE_MAX: Final = 0.02
"""Of the answers: on a busy machine we hear of some later still."""
ANSWER_S_MAX: Final = 10.0
"""Nothing of the machine explains an answer after that."""
MEMORY_GROWTH_BYTES_MAX: Final = 64 * MIB
OUTBOX_BYTES_MAX: Final = MIB
"""What may wait for one client that does not read: the gateway's own default."""
ONE_MORE_BYTES: Final = MIB // 4
"""A client is found to be over it by what comes next."""
CLOCK_WRONG_BY_S: Final = 300.0
REFRESH_EVERY_S: Final = 4.0
FROZEN_GONE_WITHIN_S: Final = 20.0
"""Ping interval, the wait for the pong, the turns of the wheel in between, and the time
of a busy machine."""
LOUD: Final = Pace(per_client_s=6.0, text_chars=30_000)
BESIDE_SLOW_S_MAX: Final = 4.0
"""What 99 of 100 messages take at most to clients that read, beside some that do not:
shorter than those are frozen, longer than a busy machine takes."""
BESIDE_HOT_S_MAX: Final = 3.0
"""The same in quiet rooms beside a hot one; also what a busy machine may take."""
DRAIN_WINDOW_S: Final = 4.0

ONE_NODE: Final = Shape()
CLUSTER: Final = Shape(gateways=2, histories=2, nodes=3)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to break the mesh."""

    name: str
    play: Callable[[Scene], Awaitable[None]]
    lane: str
    """Scenarios of one lane share a stage, one after the other; lanes run side by side."""
    shape: Shape = ONE_NODE
    in_brief: bool = True
    """Whether it is part of what is played for every change, in a few minutes."""


# -- Gateways -----------------------------------------------------------------------------


async def gateway_killed(scene: Scene) -> None:
    """Kill -9 of every gateway in turn."""
    stage = scene.stage
    await scene.cast(clients=60, rooms=10)
    scene.talk()
    await scene.for_a_while(1.5)
    for gateway in scene.chance.sample(stage.mesh.gateways, len(stage.mesh.gateways)):
        async with scene.fault(f"kill -9 {gateway.name}") as fault:
            gateway.kill()
        await scene.healed(fault)
        await stage.revive(gateway)
        await scene.for_a_while(1.0)


async def rolling_restart(scene: Scene) -> None:
    """SIGTERM to every gateway in turn, as a deployment does, under load."""
    stage = scene.stage
    await scene.cast(clients=90, rooms=12)
    scene.talk(Pace(per_client_s=6.0))
    await scene.for_a_while(1.0)
    for gateway in stage.mesh.gateways:
        there = [c for c in scene.clients if c.gateway == gateway.ws_url]
        there += [c for c in scene.seconds if c.gateway == gateway.ws_url]
        began_s = time.monotonic()
        async with (
            scene.fault(f"SIGTERM {gateway.name}") as fault,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(scene.stop(gateway))
            await scene.until(
                lambda gateway=gateway: _is_unready(scene, gateway),
                2.0,
                f"{gateway.name} is unready after SIGTERM",
                must=True,
            )
        _reconnect_rate_stays_low(scene, len(there), began_s)
        await stage.revive(gateway)
        await scene.healed(fault)


def _reconnect_rate_stays_low(scene: Scene, leaving: int, since_s: float) -> None:
    """Clients are sent away spread over the window, not at once."""
    left_s = sorted(
        goodbye.at_s
        for goodbye in scene.chronicle.goodbyes
        if goodbye.code == 3001 and goodbye.at_s >= since_s
    )
    window_s = 1.0
    # Twice the pace is the gateway's own limit; the rest is that we hear of it late.
    ceiling = max(8.0, 1.25 * 2.0 * leaving * window_s / DRAIN_WINDOW_S)
    peak = max(
        (sum(at <= other < at + window_s for other in left_s) for at in left_s),
        default=0,
    )
    scene.must(
        peak <= ceiling,
        f"{peak} of {leaving} clients were sent away within {window_s} s, "
        f"the ceiling is {ceiling:.0f}",
    )
    scene.notes.append(f"at most {peak} of {leaving} sent away in {window_s} s")


async def reconnect_storm(scene: Scene) -> None:
    """All clients lose their connections at once, and gateways admit so many a second."""
    stage = scene.stage
    rate, burst = 40, 20
    limited = {
        "CHATMESH_GATEWAY_CONNECTS_PER_S": str(rate),
        "CHATMESH_GATEWAY_CONNECTS_BURST": str(burst),
    }
    await scene.cast(clients=200, rooms=20, rooms_each=1, with_node=False)
    await _restart_gateways(scene, limited)
    await scene.until(scene.all_connected, 60.0, "everybody is back", must=True)
    scene.talk(Pace(per_client_s=1.5))
    await scene.for_a_while(2.0)
    everybody = (*scene.clients, *scene.seconds)
    for number in range(2):
        reads = await _reads(scene)
        began_s = time.monotonic()
        async with scene.fault(f"storm {number + 1}") as fault:
            before = {client: client.connects for client in everybody}
            for client in everybody:
                client.tear()

        def over(before: dict[Client, int] = before) -> bool:
            return all(
                client.connected and client.connects > count
                for client, count in before.items()
            )

        await scene.until(over, 20.0, "the storm is over", must=True)
        took_s = time.monotonic() - began_s
        await scene.healed(fault)
        more = await _reads(scene) - reads
        allowed = len(scene.rooms) * len(stage.mesh.gateways)
        scene.must(
            more <= allowed,
            f"{more:.0f} reads for {len(scene.rooms)} rooms on "
            f"{len(stage.mesh.gateways)} gateways",
        )
        # A client counts a connect when its handshake was taken.
        times_s = sorted(
            at for client in everybody for at in client.connect_times_s if at >= began_s
        )
        peak = max(
            (sum(at <= o < at + 1.0 for o in times_s) for at in times_s), default=0
        )
        ceiling = (rate + burst) * len(stage.mesh.gateways) * 1.15
        scene.must(peak <= ceiling, f"{peak} clients were let in within a second")
        scene.notes.append(
            f"storm {number + 1}: all {len(everybody)} back "
            f"in {took_s:.1f} s, at most {peak}/s let in, {more:.0f} reads"
        )
        await scene.for_a_while(1.0)
    await _restart_gateways(scene, {})


async def _restart_gateways(scene: Scene, environ: dict[str, str]) -> None:
    for gateway in scene.stage.mesh.gateways:
        await _end(gateway)
        await scene.stage.revive(gateway, environ, ready=False)
    for gateway in scene.stage.mesh.gateways:
        await gateway.until_ready()


async def _reads(scene: Scene) -> float:
    return sum(
        [
            await scene.stage.metric(gateway, "chatmesh_gateway_history_reads_total")
            for gateway in scene.stage.mesh.gateways
        ]
    )


# -- History ------------------------------------------------------------------------------


async def history_killed(scene: Scene) -> None:
    """Kill -9 of every history replica in turn; the other one takes over."""
    stage = scene.stage
    await scene.cast(clients=60, rooms=16)
    scene.talk()
    await scene.for_a_while(1.0)
    for history in stage.mesh.histories:
        async with scene.fault(f"kill -9 {history.name}") as fault:
            await _end(history)
        await scene.healed(fault)
        await stage.revive(history)
        await _share_of(scene, history)
    back = scene.chance.choice(stage.mesh.histories)
    async with scene.fault(f"kill -9 {back.name}, back as its lease ends") as fault:
        await _end(back)
    # The worst moment to come back is right after the others have seen the lease end.
    await asyncio.sleep(scene.chance.uniform(LEASE_S - 2.0, LEASE_S))
    await stage.revive(back)
    await scene.healed(fault)
    await _share_of(scene, back)
    await _every_partition_has_one_consumer(scene)


async def history_crash_points(scene: Scene) -> None:
    """History dies between receiving, committing, publishing, replying and acking."""
    stage = scene.stage
    await scene.cast(clients=50, rooms=16)
    scene.talk()
    victim, other = stage.mesh.histories
    await scene.stop(other)
    await stage.revive(other, SHORT_LEASE)
    # Asked to stop it hands over at once: only the crash itself is a fault.
    await scene.stop(victim)
    for label in CRASH_POINTS:
        passes = scene.chance.randint(5, 60)
        await stage.revive(
            victim,
            {**SHORT_LEASE, "CHATMESH_CRASH_AT": f"{label}:{passes}"},
            ready=False,
        )
        came = f"history came to {label} {passes} times"
        await scene.until(lambda: not victim.running, 60.0, came, must=True)
        async with scene.fault(f"history dies at {label}:{passes}") as fault:
            await _end(victim)
        await scene.healed(fault)
    await scene.stop(other)
    for history in stage.mesh.histories:
        await stage.revive(history)


async def history_silent(scene: Scene) -> None:
    """History freezes, and lines to broker and database die without a word."""
    stage = scene.stage
    await scene.cast(clients=50, rooms=16)
    scene.talk(Pace(per_client_s=5.0))
    await scene.for_a_while(1.0)
    first, second = stage.mesh.histories
    wires = stage.wires[second.name]
    assert wires.database is not None
    async with scene.fault(f"freeze {first.name}") as fault:
        first.pause()
        try:
            await scene.healed(fault)
        finally:
            # Thawed it believes that everything is still its own.
            first.resume()
    await _share_of(scene, first)
    for wire in (wires.broker, wires.database):
        async with scene.fault(f"stall {wire.name}") as fault:
            wire.stall()
            try:
                await scene.healed(fault)
            finally:
                wire.mend()
        await _share_of(scene, second)
    await _every_partition_has_one_consumer(scene)


async def _end(service: Service) -> None:
    service.kill()
    await service.process.wait()


async def _share_of(scene: Scene, history: Service) -> None:
    """A replica that came back has to get its part of the work again."""
    name = "chatmesh_history_partitions"

    async def has_some() -> bool:
        return await scene.stage.metric(history, name) > 0

    await scene.until(
        has_some,
        READY_WITHIN_S,
        f"{history.name} has its share",
        must=True,
        every_s=ASK_EVERY_S,
    )


# -- The broker ---------------------------------------------------------------------------


async def broker_restarted(scene: Scene) -> None:
    """Kill -9 of the only broker, some seconds without one, and back."""
    stage = scene.stage
    await scene.cast(clients=60, rooms=10)
    scene.talk()
    await scene.for_a_while(1.0)
    before = {g.name: resident_bytes(g) for g in stage.mesh.gateways}
    async with scene.fault("kill -9 broker", taken_over=False):
        stage.rabbit.nodes[0].process.kill()
        unready = await scene.until(
            lambda: _all_unready(scene),
            10.0,
            "no process without a broker is ready",
            must=True,
        )
        # People go on typing; their messages must not pile up in the gateways.
        await _commands_are_given_up(scene)
        await scene.for_a_while(4.0)
        await _commands_are_given_up(scene)
        live = [one for one in scene.clients if one.connected]
        scene.must(
            len(live) >= len(scene.clients) * 9 // 10,
            f"only {len(live)} of {len(scene.clients)} clients stayed connected",
        )
        _grew_little(scene, before, "without a broker")
        await stage.rabbit.nodes[0].restart()
    await scene.healed(scene.faults[-1])
    await scene.until(lambda: _all_ready(scene), READY_WITHIN_S, "ready", must=True)
    await _every_partition_has_one_consumer(scene)
    scene.notes.append(f"unready {unready:.1f} s after the kill")


def _grew_little(scene: Scene, before: dict[str, int], why: str) -> None:
    for gateway in scene.stage.mesh.gateways:
        grown = resident_bytes(gateway) - before[gateway.name]
        scene.must(
            grown < MEMORY_GROWTH_BYTES_MAX,
            f"{gateway.name} grew by {grown / MIB:.0f} MiB {why}",
            at_any_pace=True,
        )


async def _commands_are_given_up(scene: Scene) -> None:
    """Nobody waits for more than is on its way; what was told to try again is gone."""
    talkers = len(scene.clients) + len(scene.sdks) + (scene.node is not None)
    # Of all of them, where about a third is at each: a gateway that is late to give up
    # may have a message and its repetition.
    most = talkers * IN_FLIGHT_MAX
    name = "chatmesh_gateway_commands_waiting"
    waiting = [await scene.stage.metric(g, name) for g in scene.stage.mesh.gateways]
    scene.must(
        max(waiting) <= most,
        f"{max(waiting):.0f} commands waited in a gateway, "
        f"where {talkers} clients have {most} on their way at most",
        at_any_pace=True,
    )
    scene.notes.append(f"at most {max(waiting):.0f} commands waited in a gateway")


async def broker_links(scene: Scene) -> None:
    """The way to the broker is reset, cut, delayed and stalled, for one process each."""
    stage = scene.stage
    await scene.cast(clients=60, rooms=10)
    scene.talk()
    await scene.for_a_while(1.0)
    first, second, third = (stage.wires[g.name].broker for g in stage.mesh.gateways)
    one, other = (stage.wires[h.name].broker for h in stage.mesh.histories)
    async with scene.fault("reset gateway-1 to broker") as fault:
        first.reset()
    await scene.healed(fault)
    async with scene.fault("reset history-1 to broker") as fault:
        one.reset()
    await scene.healed(fault)
    async with scene.fault("cut gateway-2 from broker") as fault:
        await _cut_for(scene, second, 2.0)
    await scene.healed(fault)
    async with scene.fault("cut history-2 from broker") as fault:
        await _cut_for(scene, other, 2.0)
    await scene.healed(fault)
    async with scene.fault("delay everything by 100 ms") as fault:
        for wires in stage.wires.values():
            wires.broker.delay(0.1)
        try:
            await scene.for_a_while(2.0)
        finally:
            for wires in stage.wires.values():
                wires.broker.mend()
    await scene.healed(fault)
    gateway = stage.mesh.gateways[2]
    async with scene.fault("stall gateway-3 to broker") as fault:
        third.stall()
        try:
            await scene.healed(fault)
            red = await scene.until(
                lambda: _is_unready(scene, gateway),
                10.0,
                f"{gateway.name} is unready on a dead line",
                must=True,
            )
        finally:
            third.mend()
        scene.notes.append(f"unready {red:.1f} s after its line had stalled")
    await scene.until(
        lambda: _all_ready(scene), READY_WITHIN_S, "ready again", must=True
    )


async def _cut_for(scene: Scene, wire: FarWire, seconds: float) -> None:
    wire.cut()
    try:
        await scene.for_a_while(seconds)
    finally:
        wire.mend()


async def broker_alarm(scene: Scene) -> None:
    """The broker is short of memory and takes nothing from publishers."""
    stage = scene.stage
    node = stage.rabbit.nodes[0]
    await scene.cast(clients=50, rooms=8)
    scene.talk()
    await scene.for_a_while(1.0)
    async with scene.fault("memory alarm", taken_over=False) as fault:
        await node.command("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            red = await scene.until(
                lambda: _any_unready(scene),
                12.0,
                "a gateway with a blocked broker is unready",
                must=True,
            )
        finally:
            await node.command("set_vm_memory_high_watermark", "0.6")
    await scene.healed(fault)
    _answered_in_time(scene)
    await scene.until(lambda: _all_ready(scene), READY_WITHIN_S, "ready", must=True)
    scene.notes.append(f"unready {red:.1f} s after the alarm")


async def broker_node_killed(scene: Scene) -> None:
    """Kill -9 of one node of three, again and again another one."""
    stage = scene.stage
    await scene.cast(clients=40, rooms=12)
    scene.talk(Pace(per_client_s=6.0))
    await scene.for_a_while(1.0)
    nodes = scene.chance.sample(stage.rabbit.nodes, 2 if scene.stretch > 1 else 1)
    for node in nodes:
        async with scene.fault(f"kill -9 {node.name}") as fault:
            node.process.kill()
        try:
            await scene.healed(fault)
            await scene.for_a_while(1.0)
        finally:
            await node.restart()
    await _every_partition_has_one_consumer(scene)


async def broker_node_cut_off(scene: Scene) -> None:
    """One node of three is separated from the others, and comes back."""
    stage = scene.stage
    await scene.cast(clients=40, rooms=12)
    scene.talk(Pace(per_client_s=6.0))
    await scene.for_a_while(1.0)
    node = scene.chance.choice(stage.rabbit.nodes)
    others = [one for one in stage.rabbit.nodes if one is not node]
    try:
        async with scene.fault(f"cut {node.name} off") as fault:
            await cluster.part(node, others)
        await scene.healed(fault)
        await scene.for_a_while(2.0)
    finally:
        async with scene.fault(f"{node.name} is back") as fault:
            await cluster.join_again(node, others)
    await scene.healed(fault)
    await scene.for_a_while(2.0)


async def _every_partition_has_one_consumer(scene: Scene) -> None:
    """After a restart clients of the broker come back without consumers all too often."""
    histories = len(scene.stage.mesh.histories)
    wanted = {
        scene.stage.topics.command_queue(number): 1
        for number in range(limits.PARTITIONS)
    } | {scene.stage.topics.history_rpc_queue: histories}

    async def as_wanted() -> bool:
        return await scene.stage.consumers() == wanted

    took_s = await scene.until(
        as_wanted, CONSUMERS_WITHIN_S, "consumers", every_s=ASK_EVERY_S
    )
    if math.isinf(took_s):
        found = await scene.stage.consumers()
        odd = {name: n for name, n in found.items() if n != wanted[name]}
        # Right just now is late as well, and nothing to complain of: it is right.
        scene.must(not odd, f"consumer counts: {odd}", at_any_pace=True)


# -- The database -------------------------------------------------------------------------


async def database_paused(scene: Scene) -> None:
    """The database freezes, is killed, and one replica is cut off from it."""
    stage = scene.stage
    await scene.cast(clients=50, rooms=10)
    scene.talk(Pace(per_client_s=6.0))
    await scene.for_a_while(1.0)
    dead_before = await stage.dead_letters()
    async with scene.fault("pause database", taken_over=False) as fault:
        stage.postgres.pause()
        paused_s = time.monotonic()
        try:
            await scene.for_a_while(6.0 if scene.stretch <= 1 else 60.0 / scene.stretch)
            scene.must(
                not _falsely_answered(scene, paused_s + 0.5, time.monotonic()),
                "something was acknowledged while there was no database",
                at_any_pace=True,
            )
        finally:
            stage.postgres.resume()
    await scene.healed(fault)
    _answered_in_time(scene)
    async with scene.fault("kill -9 database", taken_over=False) as fault:
        stage.postgres.process.kill()
        try:
            await scene.for_a_while(1.0)
        finally:
            await stage.postgres.restart()
    await scene.healed(fault)
    wires = stage.wires[stage.mesh.histories[0].name]
    assert wires.database is not None
    async with scene.fault("cut history-1 from database") as fault:
        await _cut_for(scene, wires.database, 2.0)
    await scene.healed(fault)
    more = await stage.dead_letters() - dead_before
    scene.must(more == 0, f"{more} commands were counted as poison", at_any_pace=True)


def _falsely_answered(scene: Scene, since_s: float, until_s: float) -> bool:
    return any(
        attempt.outcome is Outcome.COMMITTED
        and attempt.answered_s is not None
        and since_s < attempt.answered_s < until_s
        and attempt.sent_s > since_s
        for attempt in _attempts(scene)
    )


def _answered_in_time(scene: Scene) -> None:
    """Whoever could not be served was told so, within the deadline."""
    waits_s = [
        attempt.answered_s - attempt.sent_s
        for attempt in _attempts(scene)
        if attempt.answered_s is not None
        # SDKs first wait for a connection, and count that as well.
        and attempt.gateway != sdk.GATEWAY
    ]
    stalled_s = scene.stalled_s(scene.began_s)
    late = sum(wait_s > ANSWER_DEADLINE_S + stalled_s for wait_s in waits_s)
    longest_s = max(waits_s, default=0.0)
    told = sum(
        attempt.answered_s is not None and attempt.code != 0
        for attempt in _attempts(scene)
    )
    scene.must(
        late <= LATE_SHARE_MAX * len(waits_s) and longest_s <= ANSWER_S_MAX + stalled_s,
        f"{late} of {len(waits_s)} answers came after {ANSWER_DEADLINE_S:g} s "
        f"and {stalled_s:.1f} s of stall, the last of them after {longest_s:.1f} s",
    )
    scene.must(told > 0, "nobody was told to try again")
    scene.notes.append(
        f"{told} times told to try again, the last answer after {longest_s:.1f} s"
    )


def _attempts(scene: Scene) -> list[Attempt]:
    return [
        attempt
        for message in scene.chronicle.messages.values()
        for attempt in message.attempts
    ]


# -- Clients ------------------------------------------------------------------------------


async def slow_and_frozen_clients(scene: Scene) -> None:
    """Some clients read slowly or not at all; nobody else notices."""
    stage = scene.stage
    slow = [Habits(small_buffer=n < 4, lives_on=n % 3) for n in range(8)]
    await scene.cast(clients=40, rooms=4, habits=slow, rooms_each=2)
    slow_ones, frozen_ones = scene.clients[:4], scene.clients[4:8]
    quick = scene.clients[8:]
    scene.talk(Pace(per_client_s=6.0, text_chars=2500), clients=quick)
    await scene.for_a_while(1.0)
    await _shout(scene, quick[:4], [*quick[:4], *frozen_ones])
    before = {g.name: resident_bytes(g) for g in stage.mesh.gateways}
    gone_before = await _closed_for_silence(scene)
    began_s = time.monotonic()
    waiting_bytes = 0.0

    async def watch_outboxes() -> None:
        nonlocal waiting_bytes
        found = await _sum(scene, "chatmesh_gateway_outbox_bytes")
        waiting_bytes = max(waiting_bytes, found)

    async with scene.fault("freeze four clients") as fault:
        for client in frozen_ones:
            client.freeze()
        if scene.node is not None:
            scene.node.freeze()

        async def gone() -> bool:
            await watch_outboxes()
            return await _closed_for_silence(scene) >= gone_before + len(frozen_ones)

        await scene.until(
            gone,
            FROZEN_GONE_WITHIN_S,
            "frozen clients are let go of",
            must=True,
            every_s=ASK_EVERY_S,
        )
    await scene.healed(fault)
    for client in frozen_ones:
        client.thaw()
        client.tear()
    if scene.node is not None:
        scene.node.thaw()
    for number in range(3):
        async with scene.fault(f"slow reading {number + 1}") as fault:
            for client in slow_ones:
                client.freeze()
            await scene.for_a_while(1.2)
            await watch_outboxes()
            for client in slow_ones:
                client.thaw()
        await scene.healed(fault)
        await scene.for_a_while(0.5)
    _grew_little(scene, before, "for slow clients")
    silent = len(slow_ones) + len(frozen_ones) + (scene.node is not None)
    _little_waited(scene, waiting_bytes, silent)
    others = {client.name for client in quick}
    worst_s = _percentile(scene.latencies_of(others, since_s=began_s), 0.99)
    scene.must(
        worst_s < BESIDE_SLOW_S_MAX + scene.stalled_s(began_s),
        f"quick clients waited {worst_s:.1f} s for slow ones",
    )
    steps = await _sum(scene, "chatmesh_gateway_slow_client_steps_total")
    scene.notes.append(f"p99 of the others {worst_s * 1000:.0f} ms, {steps:.0f} steps")


async def _shout(
    scene: Scene, speakers: Sequence[Client], members: Sequence[Client]
) -> None:
    """A room in which more is said than the kernel takes for those that do not read."""
    room = f"{scene.rooms[0]}-loud"
    scene.rooms.append(room)
    for client in members:
        client.join(room)
    await scene.until(scene.all_in, 60.0, "all in the loud room", must=True)
    scene.talk_in(room, LOUD, speakers)
    await scene.until(lambda: scene.heard_in(room), 60.0, "the loud room", must=True)


def _little_waited(scene: Scene, found_bytes: float, silent: int) -> None:
    """What the gateways hold for those that do not read has a bound for each of them."""
    most_bytes = silent * (OUTBOX_BYTES_MAX + ONE_MORE_BYTES)
    scene.must(
        found_bytes <= most_bytes,
        f"{found_bytes / MIB:.1f} MiB waited for {silent} clients that did not read, "
        f"{most_bytes / MIB:.1f} MiB are allowed",
    )
    scene.notes.append(f"at most {found_bytes / MIB:.1f} MiB waited for slow clients")


async def _closed_for_silence(scene: Scene) -> float:
    """Connections that ended because their client did not read or answer."""
    name = "chatmesh_gateway_closes_total"
    total = 0.0
    for code in ("3008", "3012"):
        total += await _sum(scene, name, f'code="{code}"')
    return total


async def _sum(scene: Scene, name: str, label: str = "") -> float:
    return sum(
        [await scene.stage.metric(g, name, label) for g in scene.stage.mesh.gateways]
    )


async def sent_again_elsewhere(scene: Scene) -> None:
    """The same message by two gateways at once, after time-outs, and with other words."""
    stage = scene.stage
    await scene.cast(clients=40, rooms=6)
    scene.talk(Pace(per_client_s=5.0))
    await scene.for_a_while(0.5)
    for round_number in range(20):
        client = scene.chance.choice([c for c in scene.clients if scene.second(c)])
        second = scene.second(client)
        assert second is not None
        room = scene.chance.choice(scene.rooms)
        message = scene.new_message(client.name, room)
        async with asyncio.TaskGroup() as group:
            for by in (client, second, client, second):
                group.create_task(by.attempt(message))
        if round_number % 4 == 0 and message.committed:
            await _other_words_are_refused(scene, message)
        scene.later(client, message)
    wire = stage.wires[stage.mesh.gateways[0].name].broker
    async with scene.fault("answers of gateway-1 do not come") as fault:
        wire.stall()
        try:
            await scene.for_a_while(5.0)
        finally:
            wire.mend()
    await scene.healed(fault)
    await scene.for_a_while(1.0)
    repeated = sum(len(m.attempts) > 1 for m in scene.chronicle.messages.values())
    scene.notes.append(f"{repeated} messages were sent more than once")


async def _other_words_are_refused(scene: Scene, message: Message) -> None:
    """The id is taken: whoever comes with another body is told 409, for ever."""
    thief = Message(message.channel, message.id, message.author, "other words")
    by = next(c for c in scene.clients if c.name == message.author)
    attempt = await by.attempt(thief)
    scene.must(
        attempt.code == CONFLICT or attempt.outcome is Outcome.UNKNOWN,
        f"an id was used again for other words: {attempt}",
        at_any_pace=True,
    )


async def clocks_differ(scene: Scene) -> None:
    """Clients and token issuers five minutes ahead and behind, tokens that end soon."""
    habits = [
        Habits(
            clock_ahead_s=scene.chance.choice([-1, 1]) * CLOCK_WRONG_BY_S,
            token_lives_s=REFRESH_EVERY_S,
            expired_first=number % 3 == 0,
        )
        for number in range(30)
    ]
    await scene.cast(clients=40, rooms=6, habits=habits)
    scene.talk()
    await scene.for_a_while(1.5)
    gateway = scene.chance.choice(scene.stage.mesh.gateways)
    async with scene.fault(f"kill -9 {gateway.name}") as fault:
        gateway.kill()
    await scene.healed(fault)
    await scene.stage.revive(gateway)
    await scene.for_a_while(REFRESH_EVERY_S)


async def hot_room(scene: Scene) -> None:
    """One room with most of the talk, quiet ones beside it, and a replica dies."""
    stage = scene.stage
    await scene.cast(clients=60, rooms=12, rooms_each=1)
    hot, quiet = scene.rooms[0], scene.rooms[1:]
    for client in scene.clients[:40]:
        if not client.follows(hot):
            client.join(hot)
    await scene.until(scene.all_in, 60.0, "all in the hot room", must=True)
    scene.talk(Pace(per_client_s=1.5))
    scene.talk_in(hot, Pace(per_client_s=12.0), scene.clients[1:25])
    began_s = time.monotonic()
    await scene.for_a_while(5.0)
    calm_s = time.monotonic()
    async with scene.fault("kill -9 history-2") as fault:
        stage.mesh.histories[-1].kill()
    await scene.healed(fault)
    await stage.revive(stage.mesh.histories[-1])
    waits_s = scene.latencies_in(set(quiet), began_s, calm_s)
    worst_s = _percentile(waits_s, 0.99)
    scene.must(
        worst_s < BESIDE_HOT_S_MAX + scene.stalled_s(began_s, calm_s),
        f"p99 in quiet rooms was {worst_s:.2f} s",
    )
    scene.notes.append(f"p99 in quiet rooms {worst_s * 1000:.0f} ms")


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[int(share * (len(ordered) - 1))] if ordered else 0.0


# -- Poison -------------------------------------------------------------------------------


async def poison(scene: Scene) -> None:
    """Bytes that are no message, and a message that kills whoever works on it."""
    stage = scene.stage
    deadly = {
        # Each death costs a lease; two of them show the same as the default of six.
        **SHORT_LEASE,
        "CHATMESH_HISTORY_SUSPECT_DELIVERIES": "1",
        "CHATMESH_HISTORY_ATTEMPTS_MAX": "1",
    }
    plain = [history.command for history in stage.mesh.histories]
    try:
        await _poisoned(scene, deadly)
    finally:
        for history, command in zip(stage.mesh.histories, plain, strict=True):
            history.command = command
            await history.stop()
            await stage.revive(history)


async def _poisoned(scene: Scene, deadly: dict[str, str]) -> None:
    stage = scene.stage
    for history in stage.mesh.histories:
        # Asked to stop it hands over at once: this is no fault.
        await scene.stop(history)
        _plant_bug(history)
        await stage.revive(history, deadly)
    dead_before = await stage.dead_letters()
    await scene.cast(clients=40, rooms=12)
    scene.talk(Pace(per_client_s=6.0))
    await scene.for_a_while(1.0)
    garbage = [b"", b"\xc1", b"\x93\xa3cmd", b"\x91\xa3\x00\x00\x80"]
    async with scene.fault("bytes that are no message") as fault:
        letters: list[tuple[str, str, bytes]] = []
        for number, body in enumerate(garbage):
            key = topics.partition_key(number * 5 % limits.PARTITIONS)
            room = scene.chance.choice(scene.rooms)
            letters += [
                (stage.topics.commands, key, body),
                (stage.topics.events, topics.log_key(room), body),
                (stage.topics.rpc, topics.HISTORY_SERVICE, body),
            ]
        await stage.publish(letters)
    await scene.healed(fault)
    killer = scene.new_message(
        scene.clients[0].name, scene.rooms[0], text=planted_bug.MARK.decode()
    )
    scene.once(scene.clients[0], killer)
    await _deaths(scene, deadly, killer)
    await scene.healed(scene.faults[-1])
    # Each gateway that heard such an event keeps one of its own.
    least = len(garbage) * 2 + 1

    async def all_there() -> bool:
        # Whoever looked among them has put them back, which takes a moment.
        return await stage.dead_letters() - dead_before >= least

    await scene.until(
        all_there,
        COUNTED_WITHIN_S,
        f"there are {least} dead letters",
        must=True,
        every_s=ASK_EVERY_S,
    )


async def _deaths(scene: Scene, deadly: dict[str, str], killer: Message) -> None:
    """Start again whoever the message kills, until it is buried."""
    stage = scene.stage
    deaths = 0
    left_nobody: Fault | None = None

    async def buried() -> bool:
        return await stage.is_dead(killer.id.encode(), killer.channel.encode())

    async def watched() -> None:
        nonlocal deaths, left_nobody
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for history in stage.mesh.histories:
                if history.running:
                    continue
                deaths += 1
                async with scene.fault(f"message kills {history.name}", strikes=True):
                    # Not waited for: the other one may be dying at this moment.
                    await stage.revive(history, deadly, ready=False)
                if not await _somebody_answers(scene):
                    left_nobody = scene.faults[-1]
            if left_nobody is not None and await _somebody_answers(scene):
                left_nobody.ended_s = time.monotonic()
                left_nobody = None

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watched())
        await scene.until(
            buried,
            BURIED_WITHIN_S,
            "the message is buried",
            must=True,
            every_s=ASK_EVERY_S,
        )
        watching.cancel()
    scene.must(1 <= deaths <= 6, f"one message killed {deaths} times")
    scene.notes.append(f"one message killed {deaths} times before it was buried")


async def _somebody_answers(scene: Scene) -> bool:
    """Whether a history replica is there at all, with or without work."""
    return any([await scene.stage.readiness(h) for h in scene.stage.mesh.histories])


def _plant_bug(history: Service) -> None:
    """Let it be run with the bug from now on."""
    plain = history.command
    history.command = dataclasses.replace(
        plain,
        words=(*plain.words[:2], planted_bug.MODULE),
        environ={**plain.environ, "PYTHONPATH": str(TESTS)},
    )


# -- Everything at once -------------------------------------------------------------------


async def mixed(scene: Scene) -> None:
    """Whatever the seed says, one after the other, without waiting for calm."""
    stage = scene.stage
    await scene.cast(clients=80, rooms=12)
    scene.talk()
    await scene.for_a_while(1.0)
    end_s = time.monotonic() + 20.0 * scene.stretch
    while time.monotonic() < end_s:
        fault = scene.chance.choice(_MIXED)
        await fault(scene)
        await asyncio.sleep(scene.chance.uniform(0.2, 2.0))
        for service in stage.mesh.services:
            if not service.running:
                await stage.revive(service, ready=False)
    for service in stage.mesh.services:
        await service.until_ready()
    await _every_partition_has_one_consumer(scene)


async def _kill_some_gateway(scene: Scene) -> None:
    gateway = scene.chance.choice(scene.stage.mesh.gateways)
    async with scene.fault(f"kill -9 {gateway.name}"):
        gateway.kill()
        await gateway.process.wait()


async def _kill_some_history(scene: Scene) -> None:
    history = scene.chance.choice(scene.stage.mesh.histories)
    async with scene.fault(f"kill -9 {history.name}", strikes=True):
        history.kill()
        await history.process.wait()


async def _freeze_some_service(scene: Scene) -> None:
    service = scene.chance.choice(scene.stage.mesh.services)
    strikes = service in scene.stage.mesh.histories
    async with scene.fault(f"freeze {service.name}", strikes=strikes):
        service.pause()
        try:
            await asyncio.sleep(scene.chance.uniform(0.5, 3.0))
        finally:
            service.resume()


async def _disturb_some_wire(scene: Scene) -> None:
    service = scene.chance.choice(list(scene.stage.wires))
    wires = scene.stage.wires[service]
    wire = scene.chance.choice([w for w in (wires.broker, wires.database) if w])
    how = scene.chance.choice(["reset", "cut", "stall"])
    strikes = service in {history.name for history in scene.stage.mesh.histories}
    async with scene.fault(f"{how} {wire.name}", strikes=strikes):
        getattr(wire, how)()
        try:
            await asyncio.sleep(scene.chance.uniform(0.2, 2.0))
        finally:
            wire.mend()


async def _tear_some_clients(scene: Scene) -> None:
    torn = scene.chance.sample(scene.clients, len(scene.clients) // 3)
    async with scene.fault(f"tear {len(torn)} clients"):
        for client in torn:
            client.tear()


async def _move_some_clients(scene: Scene) -> None:
    moving = scene.chance.sample(scene.clients, len(scene.clients) // 4)
    async with scene.fault(f"move {len(moving)} clients"):
        for client in moving:
            client.move()


_MIXED: Final = (
    _kill_some_gateway,
    _kill_some_history,
    _freeze_some_service,
    _disturb_some_wire,
    _tear_some_clients,
    _move_some_clients,
)


# -- Readiness ----------------------------------------------------------------------------


async def _is_unready(scene: Scene, service: Service) -> bool:
    """Whether it says so itself: silence is no answer, and nobody would be kept away."""
    status = await scene.stage.readiness(service)
    return status == HTTPStatus.SERVICE_UNAVAILABLE


async def _is_ready(scene: Scene, service: Service) -> bool:
    return await scene.stage.readiness(service) == HTTPStatus.OK


async def _all_unready(scene: Scene) -> bool:
    return all([await _is_unready(scene, one) for one in scene.stage.mesh.services])


async def _any_unready(scene: Scene) -> bool:
    return any([await _is_unready(scene, one) for one in scene.stage.mesh.gateways])


async def _all_ready(scene: Scene) -> bool:
    return all([await _is_ready(scene, one) for one in scene.stage.mesh.services])


SCENARIOS: Final = (
    Scenario("gateway-killed", gateway_killed, "clients"),
    Scenario("slow-and-frozen-clients", slow_and_frozen_clients, "clients"),
    Scenario("sent-again-elsewhere", sent_again_elsewhere, "clients"),
    Scenario("clocks-differ", clocks_differ, "clients"),
    Scenario("hot-room", hot_room, "clients"),
    Scenario("rolling-restart", rolling_restart, "clients"),
    Scenario("reconnect-storm", reconnect_storm, "clients"),
    Scenario("mixed", mixed, "clients"),
    Scenario("history-killed", history_killed, "services"),
    Scenario("history-silent", history_silent, "services"),
    Scenario("broker-restarted", broker_restarted, "services"),
    Scenario("broker-links", broker_links, "services"),
    Scenario("broker-alarm", broker_alarm, "services"),
    Scenario("database-paused", database_paused, "services"),
    Scenario("poison", poison, "clients"),
    Scenario("agent-killed", agents.agent_killed, "agents", agents.STAGE),
    Scenario(
        "agent-crashes-early",
        agents.agent_crashes_early,
        "agents",
        agents.STAGE,
        in_brief=False,
    ),
    Scenario(
        "agent-crashes-late",
        agents.agent_crashes_late,
        "agents",
        agents.STAGE,
        in_brief=False,
    ),
    Scenario(
        "agent-broker-restarted", agents.agent_broker_restarted, "agents", agents.STAGE
    ),
    Scenario("model-stalls", agents.model_stalls, "agents", agents.STAGE),
    Scenario("tool-worker-killed", agents.tool_worker_killed, "agents", agents.STAGE),
    Scenario("history-crash-points", history_crash_points, "cluster", CLUSTER),
    Scenario("broker-node-killed", broker_node_killed, "cluster", CLUSTER),
    Scenario("broker-node-cut-off", broker_node_cut_off, "cluster", CLUSTER),
)
