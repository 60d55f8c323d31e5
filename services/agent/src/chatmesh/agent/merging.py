"""Joins what a model says piece by piece: the text of one window becomes one event.

Bytes of a chat completion's event stream go in and come out again, with fewer events in
them: each event costs the model library a fifth of a millisecond, and a window may hold many.
The first text goes out at once. Whatever is not text and nothing but text (a role, a call of a tool,
the usage, an error, the end, a field nobody here knows) goes out at once and untouched,
behind the text that came before it. No clock in here: callers say what time it is, in
seconds of any clock that never goes back.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

TEXT_CHARS: Final = 2048
"""So much text goes out at once, whatever the window."""
EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""An event that is longer is no answer of a model."""

_Delta: TypeAlias = dict[str, str | None]
_Choice: TypeAlias = dict[str, int | _Delta | None]
_Event: TypeAlias = dict[str, str | int | list[_Choice] | None]

_EVENT_KEYS: Final = frozenset(
    (
        *("id", "object", "created", "model", "provider", "choices"),
        *("system_fingerprint", "service_tier"),
    )
)
"""What an event with text may say besides, always the same; all others have to be null."""
_PADDING: Final = "obfuscation"
"""Noise of a length that hides the text's from who sees it encrypted."""
_CHOICE_KEYS: Final = frozenset(("index", "delta"))
_DELTA_KEYS: Final = frozenset(("role", "content"))
_DATA: Final = b"data:"
_BLANK: Final = frozenset((b"\n", b"\r\n", b"\r"))
_LINES_OF_DATA: Final = 2
"""An event that is one line of data and the blank line after it."""

_decode: Final = msgspec.json.Decoder(_Event).decode
_encode: Final = msgspec.json.Encoder().encode


class EventTooLong(Exception):
    """What should be an event does not end."""


class Merging:
    """The events of one response."""

    def __init__(self, window_s: Callable[[], float]) -> None:
        """`window_s`: from text that goes out to the next, as it is wanted just now."""
        self._window_s = window_s
        self._line = b""
        self._lines: list[bytes] = []
        self._bytes = 0
        self._half_line_end = False
        self._out: list[bytes] = []
        self._raw = b""
        self._frame: _Event = {}
        self._texts: list[str] = []
        self._chars = 0
        self._sent_s: float | None = None
        self.due_s: float | None = None
        """When the text that is held has to go out; None: none is held."""

    def feed(self, data: bytes, now_s: float) -> bytes:
        """Take what has come; what goes out now. Raises EventTooLong."""
        if self._half_line_end and data.startswith(b"\n"):
            # The other half. Without it the line and a blank line of one byte would be
            # read as one; behind a whole event it says nothing.
            if self._lines:
                self._lines[-1] += b"\n"
            data = data[1:]
            self._half_line_end = False
        if not data:
            return b""
        self._half_line_end = data.endswith(b"\r")
        lines = (self._line + data).splitlines(keepends=True)
        self._line = b"" if lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        for line in lines:
            self._lines.append(line)
            self._bytes += len(line)
            if line in _BLANK:
                self._take_event(now_s)
        if self._bytes + len(self._line) > EVENT_BYTES_MAX:
            raise EventTooLong
        due = self.due_s is not None and self.due_s <= now_s
        if due or self._chars >= TEXT_CHARS:
            self._release(now_s)
        return self._taken()

    def release(self, now_s: float) -> bytes:
        """The text that is held, whether it is due or not."""
        self._release(now_s)
        return self._taken()

    def end(self, now_s: float) -> bytes:
        """Everything there is, half an event too: no more will come."""
        self._release(now_s)
        self._out += [*self._lines, self._line]
        self._lines, self._line, self._bytes = [], b"", 0
        return self._taken()

    # -- Inside ------------------------------------------------------------------------

    def _take_event(self, now_s: float) -> None:
        lines, self._lines, self._bytes = self._lines, [], 0
        raw = b"".join(lines)
        single = len(lines) == _LINES_OF_DATA and raw.startswith(_DATA)
        event = _text_event(raw) if single else None
        if event is None:
            self._release(now_s)
            self._out.append(raw)
            return
        frame, text = event
        if self._texts and frame != self._frame:
            self._release(now_s)
        if not self._texts:
            self._raw, self._frame = raw, frame
            earliest = None if self._sent_s is None else self._sent_s + self._window_s()
            self.due_s = now_s if earliest is None else max(now_s, earliest)
        self._texts.append(text)
        self._chars += len(text)

    def _release(self, now_s: float) -> None:
        if not self._texts:
            return
        if len(self._texts) == 1:
            self._out.append(self._raw)
        else:
            choices = self._frame["choices"]
            assert isinstance(choices, list), "as it was decoded"
            delta = choices[0]["delta"]
            assert isinstance(delta, dict), "as it was decoded"
            delta["content"] = "".join(self._texts)
            self._out.append(b"data: " + _encode(self._frame) + b"\n\n")
        self._texts, self._chars, self.due_s = [], 0, None
        self._sent_s = now_s

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out


def _text_event(raw: bytes) -> tuple[_Event, str] | None:
    """An event without its text, and its text; None: it says something else, or more."""
    try:
        event = _decode(raw[len(_DATA) :])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    event.pop(_PADDING, None)
    choices = event.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return None
    delta = choices[0].get("delta")
    if not isinstance(delta, dict):
        return None
    if not (
        _says_only(event, _EVENT_KEYS)
        and _says_only(choices[0], _CHOICE_KEYS)
        and _says_only(delta, _DELTA_KEYS)
    ):
        return None
    text = delta.pop("content", None)
    return (event, text) if text else None


def _says_only(said: "_Event | _Choice | _Delta", keys: frozenset[str]) -> bool:
    return all(key in keys or value is None for key, value in said.items())
