"""A run as a replica has just claimed it; tests change what matters to them."""

from typing import Final

from chatmesh.agent.conversation import PersonSaid
from chatmesh.agent.ports import Claimed, Standing

CLAIMED: Final = Claimed(
    run="r",
    agent="owl",
    channel="room:a",
    trigger="m",
    trigger_offset=9,
    prompt=PersonSaid("ada", "go"),
    requester="ada",
    traceparent="",
    status=Standing.RUNNING,
    epoch=1,
    attempt=1,
    crashes=0,
    seq=0,
    taken_over=False,
    stop_by=None,
    stop_reason=None,
    started_ms=0,
    now_ms=0,
    answer=None,
    outcome=None,
    reason=None,
)
