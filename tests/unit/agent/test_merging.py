"""What of a model's stream becomes one event, and what is left as it is."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.agent.merging import EVENT_BYTES_MAX, TEXT_CHARS, EventTooLong, Merging

WINDOW_S = 0.04
LINE_ENDS = [
    (line, blank)
    for line in (b"\n", b"\r\n", b"\r")
    for blank in (b"\n", b"\r\n", b"\r")
    if line + blank != b"\r\n"  # Those two would be one.
]
DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, Any], *, choice: object = None, **more: object) -> bytes:
    said = {
        "id": "c-1",
        "created": 1,
        "choices": [
            {
                "index": 0,
                "delta": delta,
                "finish_reason": None,
                "logprobs": None,
                **(choice if isinstance(choice, dict) else {}),
            }
        ],
        **more,
    }
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def text(said: str, **more: object) -> bytes:
    return event({"content": said}, **more)


def told(stream: bytes) -> list[str | bytes]:
    """The text of a stream, joined, and between it what is no text, as it came."""
    found: list[str | bytes] = []
    plain = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for raw in plain.split(b"\n\n"):
        said = _text_in(raw)
        if said is None:
            found.append(raw)
        elif found and isinstance(found[-1], str):
            found[-1] += said
        else:
            found.append(said)
    return [one for one in found if one]


def _text_in(raw: bytes) -> str | None:
    if not raw.startswith(b"data: {"):
        return None
    said = json.loads(raw.removeprefix(b"data: "))
    delta = said["choices"][0]["delta"] if said.get("choices") else {}
    plain = {key for key, value in delta.items() if value is not None} == {"content"}
    return delta["content"] if plain and said["id"] == "c-1" else None


def events(stream: bytes) -> int:
    return stream.count(b"data: ")


def merging() -> Merging:
    return Merging(lambda: WINDOW_S)


def test_the_first_text_goes_at_once_and_the_next_in_windows() -> None:
    """Four pieces make two events, and nothing waits for longer than a window."""
    one = merging()
    assert one.feed(text("One"), 5.0) == text("One")
    assert one.feed(text(", "), 5.01) == b""
    assert one.feed(text("two"), 5.02) == b""
    assert one.due_s == pytest.approx(5.0 + WINDOW_S)
    out = one.release(5.04)
    assert (told(out), events(out), one.due_s) == ([", two"], 1, None)


def test_text_after_silence_goes_at_once() -> None:
    """The window runs from what went out, not from what comes."""
    one = merging()
    one.feed(text("One"), 5.0)
    assert one.feed(text("two"), 6.0) == text("two")


def test_much_text_does_not_wait() -> None:
    """What comes in a flood goes through in large pieces."""
    one = merging()
    one.feed(text("One"), 5.0)
    assert told(one.feed(text("x" * TEXT_CHARS), 5.0)) == ["x" * TEXT_CHARS]


@pytest.mark.parametrize(
    "other",
    [
        event({"role": "assistant", "content": ""}),
        event({"content": None, "tool_calls": [{"index": 0, "id": "t"}]}),
        event({"refusal": "No."}),
        event({"content": "x", "reasoning_content": "Hm."}),
        event({}, choice={"finish_reason": "stop"}),
        text("x", choice={"finish_reason": "length"}),
        text("x", choice={"logprobs": {"content": []}}),
        text("x", choice={"tokens": 3}),
        text("x", usage={"prompt_tokens": 1}),
        text("x", timings={}),
        text("x", novel=1),
        b'data: {"id":"c-1","choices":[],"usage":{"total_tokens":3}}\n\n',
        b'data: {"error":{"message":"overloaded"}}\n\n',
        b'data: {"id":"c-1","choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n',
        b'data: {"id":"c-1","choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
        b"data: no JSON\n\n",
        b"data:\n\n",
        b": still thinking\n\n",
        b'event: odd\ndata: {"choices":[]}\n\n',
        b"data: two\ndata: lines\n\n",
        DONE,
    ],
)
def test_what_is_more_than_text_passes_untouched(other: bytes) -> None:
    """At once, behind the text before it and before the text that follows."""
    one = merging()
    out = [one.feed(text(said), 5.0) for said in ("One", "two", "three")]
    assert out == [text("One"), b"", b""]
    out = one.feed(other, 5.001)
    assert out.endswith(other)
    assert told(out.removesuffix(other)) == ["twothree"]
    assert one.feed(text("four"), 5.002) == b""
    assert one.release(5.04) == text("four")


def test_only_what_says_the_same_besides_is_joined() -> None:
    """Another choice, another model: another event."""
    one = merging()
    first = text("a") + text("b", choice={"index": 1}) + text("c", model="m")
    out = one.feed(first, 5.0) + one.end(5.0)
    assert out == first


def test_padding_is_no_reason_not_to_join() -> None:
    """Some add noise of another length to each event, which says nothing."""
    one = merging()
    out = one.feed(text("a", obfuscation="xyz") + text("b", obfuscation="q"), 5.0)
    assert (told(out), events(out)) == (["ab"], 1)


def test_an_end_without_a_word() -> None:
    """What is held is given, and half an event as well: no more will come."""
    one = merging()
    one.feed(text("One") + text("two"), 5.0)
    assert one.feed(text("three") + b"data: {", 5.0) == b""
    assert one.end(5.0) == text("three") + b"data: {"
    assert one.end(5.0) == b""


def test_what_does_not_end_is_refused() -> None:
    """Whoever sends a line without end fills no memory."""
    one = merging()
    quarter = b"x" * (EVENT_BYTES_MAX // 4)
    for _ in range(4):
        one.feed(quarter, 5.0)
    with pytest.raises(EventTooLong):
        one.feed(quarter, 5.0)


_OTHERS = st.sampled_from(
    [
        event({"role": "assistant", "content": ""}).rstrip(),
        event({}, choice={"finish_reason": "stop"}).rstrip(),
        b": comment",
        b"event: a\ndata: b",
        DONE.rstrip(),
    ]
)


def test_a_line_end_in_two_halves() -> None:
    """Its second half ends no line of its own, nor is it missing for the blank line."""
    one = merging()
    raw = b": comment\r\n\n"
    assert one.feed(raw[:10], 5.0) + one.feed(raw[10:], 5.0) == raw
    assert (
        one.feed(b": comment\r\n\r", 5.0) + one.feed(b"\n", 5.0) == b": comment\r\n\r"
    )
    assert one.end(5.0) == b""


@given(
    said=st.lists(st.text(min_size=1) | _OTHERS, max_size=30),
    line_ends=st.sampled_from(LINE_ENDS),
    ascii_only=st.booleans(),
    data=st.data(),
)
def test_nothing_is_lost_doubled_or_moved(
    said: list[str | bytes],
    line_ends: tuple[bytes, bytes],
    data: st.DataObject,
    *,
    ascii_only: bool,
) -> None:
    """However the bytes are cut, and whenever they come."""
    stream = b""
    for one in said:
        if isinstance(one, str):
            body = json.dumps(
                {"id": "c-1", "choices": [{"index": 0, "delta": {"content": one}}]},
                ensure_ascii=ascii_only,
            )
            one = b"data: " + body.encode()  # noqa: PLW2901 - as it is sent
        stream += one.replace(b"\n", line_ends[0]) + b"".join(line_ends)
    cuts = st.lists(st.integers(0, len(stream)), max_size=20)
    places = [0, *sorted(data.draw(cuts)), len(stream)]
    merged, now_s, out = merging(), 5.0, b""
    for begin, end in itertools.pairwise(places):
        now_s += data.draw(st.floats(0, WINDOW_S))
        if merged.due_s is not None and merged.due_s <= now_s:
            out += merged.release(now_s)
        out += merged.feed(stream[begin:end], now_s)
        assert merged.due_s is None or now_s < merged.due_s <= now_s + WINDOW_S
    out += merged.end(now_s)
    assert told(out) == told(stream)
    assert events(out) <= events(stream)
