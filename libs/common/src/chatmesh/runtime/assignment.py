"""Which replica works on which partition: fair, the same for everyone, few moves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class View(NamedTuple):
    """Who lives and who holds what, in one consistent look."""

    leases: Mapping[str, float]
    """Those whose lease runs, each with its end: seconds, by the clock of the leases."""
    owners: Mapping[int, str | None]
    """Holder of each partition; may be a replica that is no more."""


def assign(owners: Mapping[int, str | None], replicas: Sequence[str]) -> dict[int, str]:
    """Give every partition to one living replica, moving as few as possible.

    Shares differ by at most one. Whoever holds more already is first to get the larger
    share, so that nothing moves for the sake of it. Depends on nothing but its
    arguments: replicas that see the same decide the same.
    """
    if not replicas:
        return {}
    living = sorted(set(replicas))
    held: dict[str, list[int]] = {replica: [] for replica in living}
    free: list[int] = []
    for partition in sorted(owners):
        owner = owners[partition]
        if owner is not None and owner in held:
            held[owner].append(partition)
        else:
            free.append(partition)
    base, larger = divmod(len(owners), len(living))
    by_holding = sorted(living, key=lambda replica: (-len(held[replica]), replica))
    share = {
        replica: base + (1 if rank < larger else 0)
        for rank, replica in enumerate(by_holding)
    }
    for replica in living:
        free.extend(held[replica][share[replica] :])
        del held[replica][share[replica] :]
    free.sort()
    for replica in living:
        missing = share[replica] - len(held[replica])
        held[replica].extend(free[:missing])
        del free[:missing]
    return {partition: replica for replica, mine in held.items() for partition in mine}


class Moves(NamedTuple):
    """What one replica has to do to come to its share."""

    release: list[int]
    """Held and consumed, and to be handed to somebody else."""
    claim: list[int]
    """Free, or held by the dead, and mine to take."""


class Silence:
    """Notices replicas whose lease still runs although nobody renews it any more.

    By the looks of one replica and its own clock, so that nobody has to agree with
    anybody about the length of leases.
    """

    def __init__(self, after_s: float) -> None:
        """`after_s`: without a renewal for so long a replica counts as silent."""
        self._after_s = after_s
        self._seen: dict[str, tuple[float, float]] = {}
        """The end of each replica's lease, and when it was first seen to be that."""

    def look(self, view: View, now_s: float) -> frozenset[str]:
        """Who is silent, as far as this look and those before it show."""
        self._seen = {
            replica: seen
            if (seen := self._seen.get(replica)) is not None and seen[0] == until
            else (until, now_s)
            for replica, until in view.leases.items()
        }
        return frozenset(
            replica
            for replica, (_, since_s) in self._seen.items()
            if now_s - since_s > self._after_s
        )


def moves(
    me: str,
    view: View,
    consuming: frozenset[int],
    silent: frozenset[str] = frozenset(),
) -> Moves:
    """Steps from what is to what should be.

    A partition of a living replica is never taken: its holder releases it first, after
    the last of its commands. Whether the dead are dead is decided where the claim is
    made, in the database's time. The silent keep what they hold while their lease runs,
    but nothing is meant for them: where several die one after the other, what the first
    one held must not wait for the lease of the next one too.
    """
    awake = [one for one in view.leases if one == me or one not in silent]
    wanted = assign(view.owners, awake)
    mine = {partition for partition, replica in wanted.items() if replica == me}
    living = view.leases.keys()
    release = sorted(
        partition
        for partition, owner in view.owners.items()
        if owner == me and partition not in mine
    )
    claim = sorted(
        partition
        for partition in mine - consuming
        if (owner := view.owners[partition]) == me or owner not in living
    )
    return Moves(release, claim)
