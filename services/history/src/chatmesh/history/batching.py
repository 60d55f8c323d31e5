"""Turns what arrived into one statement for the log, and its answer into announcements.

A batch is gathered from deliveries in order of arrival. Commands that can be refused by
looking at them never reach the log; a second command with the same id in one batch
shares the row of the first.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from chatmesh.history.paging import weight_of
from chatmesh.history.ports import Announcement, Columns, Fence, Placed
from chatmesh.wire import channels, errors, limits, nesting, users
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import (
    CommandBatch,
    Entry,
    LogEvent,
    Outcome,
    PublishCommand,
)

_DIGEST_BYTES: Final = 16
_FENCE_CHARS_MAX: Final = 128
_EVENT_ENTRIES_MAX: Final = limits.COMMANDS_PER_BATCH_MAX
_NUL: Final = "\0"

_encode_tags = msgspec.json.Encoder(order="sorted").encode


class Delivery(NamedTuple):
    """One command batch from a command queue, as the broker delivered it."""

    tag: int
    """The broker's number of this delivery on its channel; ascends with arrival."""
    batch: CommandBatch
    size: int
    """Bytes of the message."""
    deaths: int
    """How often it was delivered before, to whomever."""
    received_s: float
    """By the monotonic clock."""


class _Ask(NamedTuple):
    row: int
    digest: bytes
    command: PublishCommand
    delivery: Delivery


class Committed(NamedTuple):
    """What is left to do after the commit, and what to count."""

    announcement: Announcement
    fresh: int
    repeated: int
    refused: int


@dataclass(slots=True)
class Batch:
    """One commit in the making. `add` in order of arrival, then `settle` its answer."""

    columns: Columns = field(default_factory=Columns)
    _asks: list[_Ask] = field(default_factory=list[_Ask])
    _rows: dict[tuple[str, str], int] = field(
        default_factory=dict[tuple[str, str], int]
    )
    _outcomes: dict[str, list[Outcome]] = field(
        default_factory=dict[str, list[Outcome]]
    )
    _refused: int = 0

    @classmethod
    def of(cls, deliveries: Iterable[Delivery]) -> "Batch":
        batch = cls()
        for delivery in deliveries:
            batch.add(delivery, delivery.batch.commands)
        return batch

    @classmethod
    def of_commands(
        cls, delivery: Delivery, commands: Sequence[PublishCommand]
    ) -> "Batch":
        batch = cls()
        batch.add(delivery, commands)
        return batch

    def add(self, delivery: Delivery, commands: Sequence[PublishCommand]) -> None:
        """Take commands of a delivery; those that are wrong in themselves are refused."""
        columns, rows, asks = self.columns, self._rows, self._asks
        for command in commands:
            refusal = refuse(command)
            if refusal is not None:
                self.refuse(delivery, command, refusal)
                continue
            digest = digest_of(command.user, command.data)
            key = (command.channel, command.id)
            row = rows.setdefault(key, len(columns))
            if row == len(columns):
                columns.channels.append(command.channel)
                columns.ids.append(command.id)
                columns.digests.append(digest)
                columns.authors.append(command.user)
                columns.payloads.append(command.data)
                columns.infos.append(command.info or None)
                columns.tags.append(_tags_of(command))
                if command.fence:
                    columns.fences[row] = Fence(command.fence, command.fence_epoch)
            elif command.fence:
                self._replace_if_late(row, digest, command)
            asks.append(_Ask(row, digest, command, delivery))

    def _replace_if_late(
        self, row: int, digest: bytes, command: PublishCommand
    ) -> None:
        """Let a command have the row of one whose author it has replaced."""
        columns = self.columns
        fence = columns.fences.get(row)
        if fence is None or fence.name != command.fence:
            return
        if command.fence_epoch > fence.epoch:
            columns.fences[row] = Fence(command.fence, command.fence_epoch)
            columns.digests[row] = digest
            columns.authors[row] = command.user
            columns.payloads[row] = command.data
            columns.infos[row] = command.info or None
            columns.tags[row] = _tags_of(command)

    def refuse(
        self, delivery: Delivery, command: PublishCommand, error: ErrorReply
    ) -> None:
        """Answer a command with an error, if anybody waits for it."""
        self._refused += 1
        self._answer(
            delivery,
            Outcome(
                command.request,
                command.channel,
                command.id,
                error_code=error.code,
                error_message=error.message,
                error_temporary=error.temporary,
            ),
        )

    def settle(
        self,
        placed: Sequence[Placed | ErrorReply],
        *,
        again: bool = False,
        follow: Callable[[str], str] = str,
    ) -> Committed:
        """Say who has to hear what, given where the log put each row.

        `again`: an earlier run of the statement may have committed without our hearing
        of it. Then, and for commands that were delivered before, what the log knew
        already is announced once more: whoever was to do it may have died. `follow`
        gives the trace context of an entry from that of its command.
        """
        telling = _Telling()
        repeated = 0
        for row, digest, command, delivery in self._asks:
            place = placed[row]
            if isinstance(place, ErrorReply):
                self.refuse(delivery, command, place)
                continue
            if place.late:
                self.refuse(delivery, command, errors.SUPERSEDED)
                continue
            if (place.known_digest or self.columns.digests[row]) != digest:
                self.refuse(delivery, command, errors.CONFLICT)
                continue
            if place.known_digest is None and telling.is_first(row):
                rides = command.hears and command.request != 0
                traced = _following(command, follow)
                telling.tell(
                    command, place, _fresh(traced, place, delivery, rides=rides)
                )
                if rides:
                    continue
            else:
                repeated += 1
                came_again = again or delivery.deaths > 0
                if came_again and place.kept and telling.is_first(row):
                    traced = _following(command, follow)
                    telling.tell(command, place, _as_stored(traced, place))
            self._answer(delivery, _outcome(command, place))
        fresh = sum(
            1
            for p in placed
            if isinstance(p, Placed) and p.known_digest is None and not p.late
        )
        announcement = Announcement(telling.events(), self._outcomes)
        return Committed(announcement, fresh, repeated, self._refused)

    def _answer(self, delivery: Delivery, outcome: Outcome) -> None:
        reply_to = delivery.batch.reply_to
        if outcome.request and reply_to:
            self._outcomes.setdefault(reply_to, []).append(outcome)


class _Telling:
    """The entries a batch has to tell, by channel, each row at most once."""

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._entries: dict[str, list[Entry]] = {}
        self._epochs: dict[str, str] = {}

    def is_first(self, row: int) -> bool:
        """Whether a row has not been told yet; from now on it has."""
        if row in self._told:
            return False
        self._told.add(row)
        return True

    def tell(self, command: PublishCommand, place: Placed, entry: Entry) -> None:
        self._entries.setdefault(command.channel, []).append(entry)
        self._epochs[command.channel] = place.epoch

    def events(self) -> list[LogEvent]:
        return [
            LogEvent(channel, self._epochs[channel], run)
            for channel, entries in self._entries.items()
            for run in _runs(entries)
        ]


def _following(command: PublishCommand, follow: Callable[[str], str]) -> PublishCommand:
    """The same command at the place its trace has come to; most are not traced."""
    if not command.traceparent:
        return command
    return msgspec.structs.replace(command, traceparent=follow(command.traceparent))


def _fresh(
    command: PublishCommand, place: Placed, delivery: Delivery, *, rides: bool
) -> Entry:
    """An entry stored just now; with `rides` it is the asker's reply as well."""
    return Entry(
        place.offset,
        command.id,
        command.data,
        command.info,
        place.at_ms,
        command.tags,
        delivery.batch.origin if rides else "",
        command.request if rides else 0,
        command.traceparent,
    )


def _as_stored(command: PublishCommand, place: Placed) -> Entry:
    """An entry stored by an earlier command with this id and body."""
    return Entry(
        place.offset,
        command.id,
        command.data,
        place.info,
        place.at_ms,
        place.tags or {},
        traceparent=command.traceparent,
    )


def _outcome(command: PublishCommand, place: Placed) -> Outcome:
    return Outcome(
        command.request,
        command.channel,
        command.id,
        place.offset,
        place.epoch,
        place.at_ms,
    )


def digest_of(user: str, data: bytes) -> bytes:
    """What makes two commands with one id the same message: author and payload."""
    # No user name holds a NUL, so nothing can pass from one part to the other.
    return hashlib.blake2b(
        b"%b\0%b" % (user.encode(), data), digest_size=_DIGEST_BYTES
    ).digest()


def mark_of(delivery: Delivery) -> tuple[str, str]:
    """What a delivery is called on record: the same whenever it comes again.

    The first part is no channel's name, so it meets no command's record.
    """
    names = "".join(f"{c.channel}\0{c.id}\0" for c in delivery.batch.commands)
    digest = hashlib.blake2b(names.encode(), digest_size=_DIGEST_BYTES)
    return "", digest.hexdigest()


def refuse(command: PublishCommand) -> ErrorReply | None:
    """Why a command can never be committed; None when nothing speaks against it."""
    if reason := channels.refusal(command.channel) or _bad_name(command):
        return errors.because(errors.BAD_REQUEST, reason)
    if len(command.data) > limits.PUBLICATION_BYTES_MAX:
        return errors.because(
            errors.TOO_LARGE, f"over {limits.PUBLICATION_BYTES_MAX} bytes"
        )
    if len(command.info) > limits.PUBLICATION_BYTES_MAX:
        return errors.because(errors.TOO_LARGE, "author info")
    if nesting.too_deep(command.data) or nesting.too_deep(command.info):
        return errors.because(
            errors.BAD_REQUEST, f"JSON of more than {limits.JSON_DEPTH_MAX} levels"
        )
    return _refuse_tags(command.tags) if command.tags else None


def _bad_name(command: PublishCommand) -> str | None:
    if not command.id or len(command.id) > limits.MESSAGE_ID_CHARS_MAX:
        return f"an id has 1 to {limits.MESSAGE_ID_CHARS_MAX} characters"
    if len(command.user) > users.NAME_CHARS_MAX:
        return f"a user name over {users.NAME_CHARS_MAX} characters"
    if len(command.fence) > _FENCE_CHARS_MAX:
        return f"a fence over {_FENCE_CHARS_MAX} characters"
    if _NUL in command.id or _NUL in command.user or _NUL in command.fence:
        return "NUL in a name"
    return None


def _refuse_tags(tags: dict[str, str]) -> ErrorReply | None:
    if (
        sum(len(key) + len(value) for key, value in tags.items())
        > limits.TAGS_CHARS_MAX
    ):
        return errors.because(
            errors.TOO_LARGE, f"tags over {limits.TAGS_CHARS_MAX} characters"
        )
    if any(_NUL in key or _NUL in value for key, value in tags.items()):
        return errors.because(errors.BAD_REQUEST, "NUL in a tag")
    return None


def _tags_of(command: PublishCommand) -> str | None:
    return _encode_tags(command.tags).decode() if command.tags else None


def _runs(entries: list[Entry]) -> Iterable[list[Entry]]:
    """Split into events: dense, ascending, and none of them too large for a message."""
    entries.sort(key=lambda entry: entry.offset)
    start, size = 0, 0
    for index, entry in enumerate(entries):
        weight = weight_of(entry)
        gap = index > start and entry.offset != entries[index - 1].offset + 1
        full = (
            size + weight > limits.BATCH_BYTES_MAX
            or index - start >= _EVENT_ENTRIES_MAX
        )
        if index > start and (gap or full):
            yield entries[start:index]
            start, size = index, 0
        size += weight
    yield entries[start:]
