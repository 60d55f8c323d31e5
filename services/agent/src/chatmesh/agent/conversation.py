"""What a model is told: the room's last words, the message, and what the run did so far.

The journal of a run holds everything finished, in order; a run taken over reads it and
stands where the one before stood. Nothing in it is ever done again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from chatmesh.agent.tools.port import ToolOffer


class PersonSaid(msgspec.Struct, frozen=True, tag="person"):
    """Somebody in the room, a person or another agent."""

    name: str
    text: str


class AgentSaid(msgspec.Struct, frozen=True, tag="self"):
    """This agent itself, in an earlier answer."""

    text: str


class Call(msgspec.Struct, frozen=True):
    """A tool call as the model made it."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it: it may be no JSON at all."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one response."""

    input_tokens: int = 0
    output_tokens: int = 0


class Responded(msgspec.Struct, frozen=True, tag="response"):
    """One whole response of the model."""

    step: int
    text: str
    calls: list[Call] = []
    usage: Usage = Usage()
    raw: bytes = b""
    """The same in the words of the model library: what only it understands is kept too."""
    cut_off: bool = False
    """It is not whole, and it is the last one of its run."""
    cut_by: str = ""
    """Why, as the provider calls it; empty: ended by the run for its length."""


class Returned(msgspec.Struct, frozen=True, tag="result"):
    """The result of one call."""

    step: int
    call: str
    name: str
    outcome: str
    content: str


class Context(msgspec.Struct, frozen=True, tag="context"):
    """What the model knew when the run began."""

    earlier: list[PersonSaid | AgentSaid]
    prompt: PersonSaid


class Steered(msgspec.Struct, frozen=True, tag="steered"):
    """A message that came while the run went on, before this step."""

    step: int
    run: str
    """The run this message would have been."""
    said: PersonSaid


Entry: TypeAlias = Context | Responded | Returned | Steered
"""What a journal holds."""

Turn: TypeAlias = PersonSaid | AgentSaid | Responded | Returned
"""What a model is told, in order."""

_entry: Final = msgspec.msgpack.Decoder(Entry)
_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class ModelAsk:
    """One request to a model."""

    instructions: str
    turns: Sequence[Turn]
    tools: Sequence[ToolOffer]
    output_tokens: int


@dataclass(slots=True)
class Journal:
    """What has been finished in a run."""

    entries: list[Entry] = field(default_factory=list[Entry])
    carried: int = 0
    """So many entries, the first ones, are from the run that this one does again."""

    @property
    def own(self) -> "Journal":
        """What this run did by itself: what its limits count, and its usage."""
        return Journal(self.entries[self.carried :])

    @property
    def context(self) -> Context | None:
        first = self.entries[0] if self.entries else None
        return first if isinstance(first, Context) else None

    @property
    def responses(self) -> list[Responded]:
        return [one for one in self.entries if isinstance(one, Responded)]

    @property
    def results(self) -> list[Returned]:
        return [one for one in self.entries if isinstance(one, Returned)]

    @property
    def steered(self) -> list[Steered]:
        return [one for one in self.entries if isinstance(one, Steered)]

    @property
    def open_calls(self) -> list[Call]:
        """Calls of the last response without a result yet."""
        responses = self.responses
        if not responses:
            return []
        last = responses[-1]
        done = {one.call for one in self.results if one.step == last.step}
        return [call for call in last.calls if call.id not in done]

    @property
    def wants_answer(self) -> bool:
        """Whether it is the model's turn."""
        if not self.entries or not self.responses:
            return True
        return not isinstance(self.entries[-1], Responded) and not self.open_calls

    def turns(self) -> list[Turn]:
        turns: list[Turn] = []
        for entry in self.entries:
            match entry:
                case Context(earlier=earlier, prompt=prompt):
                    turns += [*earlier, prompt]
                case Steered(said=said):
                    turns.append(said)
                case Responded() | Returned():
                    turns.append(entry)
        return turns

    @property
    def input_tokens(self) -> int:
        return sum(one.usage.input_tokens for one in self.responses)

    @property
    def output_tokens(self) -> int:
        return sum(one.usage.output_tokens for one in self.responses)


UNKNOWN: Final = (
    "the run ended before this call's result was known; it may have taken effect"
)


def carried_over(journal: Journal) -> list[Entry]:
    """What a run begins with that does an ended one again: nothing finished is done anew.

    A response that was cut off is asked for again. Of a call that was under way nobody
    knows what became of it, and that is what the model is told.
    """
    entries = list(journal.entries)
    if entries and isinstance(entries[-1], Responded) and entries[-1].cut_off:
        entries.pop()
    last = Journal(entries)
    step = last.responses[-1].step if last.responses else 0
    return [
        *entries,
        *(
            Returned(step, call.id, call.name, "unknown", UNKNOWN)
            for call in last.open_calls
        ),
    ]


class _Message(msgspec.Struct):
    type: str
    text: str


class _Author(msgspec.Struct):
    user: str = ""


_message: Final = msgspec.json.Decoder(_Message)
_author: Final = msgspec.json.Decoder(_Author)


def author(info: bytes) -> str:
    """The user who published something; empty for nobody, or what cannot be read."""
    try:
        return _author.decode(info).user if info else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def read_message(data: bytes, info: bytes, chars_max: int) -> PersonSaid | None:
    """What somebody said in the room; None for a publication that is no message."""
    try:
        message = _message.decode(data)
        author = _author.decode(info) if info else _Author()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if message.type != "message":
        return None
    return PersonSaid(author.user, message.text[:chars_max])


def kind_of(entry: Entry) -> str:
    """How an entry is called in the journal's table."""
    return str(type(entry).__struct_config__.tag)


def encode(entry: Entry) -> bytes:
    return _encode(entry)


def decode(bodies: Iterable[bytes]) -> Journal:
    """Read a journal back. Raises msgspec.DecodeError for what is none."""
    return Journal([_entry.decode(body) for body in bodies])


def arguments_of(call: Call) -> dict[str, Any]:
    """The arguments of a call. Raises ValueError, in words the model can read."""
    if not call.arguments.strip():
        return {}
    try:
        value = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"the arguments are no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("the arguments are no JSON object")  # noqa: TRY004 - one kind of refusal
    return value  # pyright: ignore[reportUnknownVariableType] - any JSON object
