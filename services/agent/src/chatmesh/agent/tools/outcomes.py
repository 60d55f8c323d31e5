"""What becomes of a call when its worker has spoken, or has not: the rules, in one place.

A call without side effects may be made again, so whatever goes wrong with it has gone
wrong. A side effect that was given to a worker and has no clear answer is `unknown`:
it may have happened, and only people or the model may decide to try again.
"""

import json
from typing import Final

from chatmesh.agent.tools.arguments import canonical, kind_violation, violation
from chatmesh.agent.tools.port import OutcomeState
from chatmesh.agent.tools.ports import Entry, Settlement
from chatmesh.wire import limits
from chatmesh.wire.tools import Result

ATTEMPTS_MAX: Final = 3
"""How often one call is handed to workers, by us; the broker has its own limit."""
PREVIEW_CHARS: Final = 4000
"""Of a large result, what stands in its outcome."""
REFERENCE_PREFIX: Final = "result:"
MAYBE: Final = "it may or may not have taken effect, and is not repeated by itself"


def wants_retry(entry: Entry, result: Result, now_ms: int) -> bool:
    """Whether a failed call is made again: nothing happened, and there is time."""
    return (
        result.state == "failed"
        and result.retry
        and not entry.cancel
        and entry.attempt < ATTEMPTS_MAX
        and now_ms < entry.deadline_ms
    )


def settlement(entry: Entry, result: Result) -> Settlement:
    """How a call ends by what its worker says."""
    if result.state == "done":
        return _done(entry, result)
    state: OutcomeState = result.state
    content = result.error or state
    if state in {"timeout", "cancelled"} and not entry.read_only:
        state, content = "unknown", f"{content}; {MAYBE}"
    elif state == "unknown" and entry.read_only:
        state = "failed"
    return Settlement(state, content, size_bytes=_size(content), worker=result.worker)


def silence(entry: Entry) -> Settlement:
    """How a call ends when its deadline is over and nobody has said anything."""
    if entry.state == "pending":
        return Settlement("timeout", "not started before its deadline")
    if entry.read_only:
        return Settlement("timeout", "no result before the deadline")
    return Settlement("unknown", f"no result before the deadline; {MAYBE}")


def abandoned(entry: Entry) -> Settlement:
    """How a cancelled call ends when its worker does not say so in time."""
    if entry.read_only:
        return Settlement("cancelled", "the call was cancelled")
    return Settlement("unknown", f"cancelled while it may have been running; {MAYBE}")


def _done(entry: Entry, result: Result) -> Settlement:
    value: object = result.result
    content = value if isinstance(value, str) else canonical(value)
    size = _size(content)
    # What is this large is not handed to the model as a whole, and looking into it would
    # take a replica from its rooms.
    large = size > limits.TOOL_INLINE_BYTES_MAX
    check = kind_violation if large else violation
    if entry.result_schema and (broken := check(entry.result_schema, value)):
        told = f"the tool gave back what it does not promise: {broken}"
        # The effect is there all the same; only what it says cannot be relied on.
        return Settlement("failed", told, size_bytes=_size(told), worker=result.worker)
    if not large:
        return Settlement("done", content, size_bytes=size, worker=result.worker)
    reference = f"{REFERENCE_PREFIX}{entry.key}"
    notice = json.dumps(
        {
            "reference": reference,
            "bytes": size,
            "characters": len(content),
            "beginning": content[:PREVIEW_CHARS],
        },
        ensure_ascii=False,
    )
    return Settlement("done", notice, reference, size, content, result.worker)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
