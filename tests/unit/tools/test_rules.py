"""Rules of calls: who may answer, what arguments are, what an outcome is."""

import json
import time
from dataclasses import replace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from chatmesh.agent.tools.approvals import Approvals, ineligible
from chatmesh.agent.tools.arguments import canonical, digest, refusal, violation
from chatmesh.agent.tools.metrics import ToolMetrics
from chatmesh.agent.tools.outcomes import abandoned, settlement, silence, wants_retry
from chatmesh.agent.tools.ports import Entry
from chatmesh.wire import errors, limits
from chatmesh.wire.calls import ServiceCall
from chatmesh.wire.tools import Result, ResultState

SENT = Entry(
    key="r:c",
    run="r",
    room="room:lab",
    agent="agent:helper",
    requester="ada",
    tool="t",
    pool="p",
    read_only=True,
    timeout_ms=1000,
    asked_digest="",
    arguments="{}",
    digest="",
    result_schema="",
    state="sent",
    epoch=1,
    attempt=1,
    not_before_ms=0,
    deadline_ms=1000,
    cancel=False,
    content="",
    reference="",
    size_bytes=0,
    worker="",
    approval=None,
)
WRITES = replace(SENT, read_only=False)


@pytest.mark.parametrize(
    ("roles", "user", "role", "may"),
    [
        (["requester"], "ada", "guest", True),
        (["requester"], "bob", "owner", False),
        (["moderator"], "bob", "moderator", True),
        (["moderator"], "bob", "owner", True),
        (["moderator"], "ada", "member", False),
        (["member"], "bob", "guest", False),
        (["owner", "requester"], "agent:ada", "owner", False),
        (["owner"], "", "owner", False),
        ([], "ada", "owner", False),
        (["owner"], "bob", "emperor", False),
    ],
)
def test_who_may_answer(roles: list[str], user: str, role: str, *, may: bool) -> None:
    """Roles include those below; the requester only where named; agents never."""
    assert (ineligible(roles, "ada", user, role) == "") is may


async def test_an_answer_that_is_nested_without_end_is_refused() -> None:
    """Like any other that cannot be read."""
    nobody = cast("Any", None)
    approvals = Approvals(
        nobody, nobody, nobody, ToolMetrics(CollectorRegistry()), nobody
    )
    data = b'{"more":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    call = ServiceCall(
        1, "replies", "approval.answer", "room:a", "ada", "c", "member", data, 0
    )
    answer = await approvals.answer(call)
    assert answer.error_code == errors.BAD_REQUEST.code


def test_arguments_have_one_spelling() -> None:
    """The order of keys does not matter, the values do."""
    one, other = canonical({"b": 1, "a": [2]}), canonical({"a": [2], "b": 1})
    assert one == other == '{"a":[2],"b":1}'
    assert digest(one) != digest(canonical({"a": [2], "b": 2}))


def test_a_schema_is_never_fetched() -> None:
    """One that refers elsewhere, or is none, is a sentence about the tool."""
    for schema in (
        {"$ref": "http://127.0.0.1:9/x.json"},
        {"type": "nonsense"},
        {"$ref": "#/$defs/none"},
        {"propertyNames": {"pattern": "("}},
    ):
        told = violation(canonical(schema), {"a": 1})
        assert told
        assert "schema is broken" in told
    assert refusal({"type": "object"}, {"a": float("nan")})
    assert refusal({"type": "object"}, {"a": 1}) is None


@pytest.mark.parametrize(
    ("state", "reads", "writes"),
    [
        ("done", "done", "done"),
        ("failed", "failed", "failed"),
        ("timeout", "timeout", "unknown"),
        ("cancelled", "cancelled", "unknown"),
        ("unknown", "failed", "unknown"),
    ],
)
def test_what_a_worker_says_is_weighed(
    state: ResultState, reads: str, writes: str
) -> None:
    """A side effect that was broken off may have happened; a reading has not."""
    result = Result(key="r:c", state=state, result=1, error="so")
    assert settlement(SENT, result).state == reads
    assert settlement(WRITES, result).state == writes


def test_silence_is_weighed_too() -> None:
    """Without a word at the deadline, or after a cancel."""
    assert silence(SENT).state == "timeout"
    assert silence(WRITES).state == "unknown"
    assert silence(replace(WRITES, state="pending")).state == "timeout"
    assert abandoned(SENT).state == "cancelled"
    assert abandoned(WRITES).state == "unknown"


def test_a_result_is_held_to_its_promise() -> None:
    """What violates the tool's own schema is not passed on as if it did not."""
    entry = replace(SENT, result_schema='{"type":"integer"}')
    assert (
        settlement(entry, Result(key="k", state="done", result="x")).state == "failed"
    )
    assert settlement(entry, Result(key="k", state="done", result=3)).content == "3"


def test_what_is_tried_again() -> None:
    """Only failures that say so, in time, a few times, and while somebody wants it."""
    again = Result(key="r:c", state="failed", retry=True)
    assert wants_retry(WRITES, again, 0)
    assert not wants_retry(WRITES, replace_state(again, "timeout"), 0)
    assert not wants_retry(WRITES, again, 1000)
    assert not wants_retry(replace(WRITES, attempt=3), again, 0)
    assert not wants_retry(replace(WRITES, cancel=True), again, 0)


def replace_state(result: Result, state: ResultState) -> Result:
    return Result(key=result.key, state=state, retry=result.retry)


@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"type": "string"}},
        {"items": {"type": "object", "maxProperties": 1, "minProperties": 1}},
        {"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "null"}}]},
        {"oneOf": [{"items": {"type": "string"}}, {"items": {"type": "null"}}]},
        {"uniqueItems": True},
    ],
)
def test_a_value_full_of_mistakes_is_told_in_a_few_words(
    schema: dict[str, object],
) -> None:
    """Neither time nor memory grow with the number of mistakes or their square."""
    began_s = time.process_time()
    told = violation(canonical(schema), [{}] * 60_000)
    assert told
    assert len(told) < 2000
    assert time.process_time() - began_s < 3


def test_equal_items_are_equal_however_they_are_spelt() -> None:
    """As the specification has it: 1 is 1.0, and true is neither."""
    unique = canonical({"uniqueItems": True})
    assert violation(unique, [1, 1.0])
    assert violation(unique, [{"a": 1, "b": [2.0]}, {"b": [2], "a": 1}])
    assert violation(unique, [1, True, "1", [1], {"a": 1}]) is None


def test_a_large_result_is_not_looked_into() -> None:
    """Beyond what a model is given at once, only the kind of a result is compared."""
    schema = canonical({"type": "array", "items": {"type": "string"}})
    entry = replace(SENT, result_schema=schema)
    value: list[object] = [1] * 2_000_000
    began_s = time.process_time()
    ended = settlement(entry, Result(key="k", state="done", result=value))
    assert time.process_time() - began_s < 5
    assert (ended.state, bool(ended.reference)) == ("done", True)
    text = "x" * (limits.TOOL_INLINE_BYTES_MAX + 1)
    ended = settlement(entry, Result(key="k", state="done", result=text))
    assert ended.state == "failed"
    assert "not of type array" in ended.content
    small = settlement(entry, Result(key="k", state="done", result=json.loads("[1]")))
    assert small.state == "failed"
