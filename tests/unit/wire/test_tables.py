"""Errors, goodbyes and unsubscribes: every row as the protocol has it."""

import json

import pytest

from chatmesh.wire import close_codes, errors, limits
from chatmesh.wire.close_codes import Disconnect, Unsubscribe
from chatmesh.wire.errors import ErrorReply

ERRORS = {
    100: ("internal server error", True),
    101: ("unauthorized", False),
    102: ("unknown channel", False),
    103: ("permission denied", False),
    104: ("method not found", False),
    105: ("already subscribed", False),
    106: ("limit exceeded", False),
    107: ("bad request", False),
    108: ("not available", False),
    109: ("token expired", False),
    110: ("expired", False),
    111: ("too many requests", True),
    112: ("unrecoverable position", False),
}
DISCONNECTS = {
    3000: ("connection closed", True),
    3001: ("shutdown", True),
    3004: ("internal server error", True),
    3005: ("connection expired", True),
    3006: ("subscription expired", True),
    3008: ("slow", True),
    3009: ("write error", True),
    3010: ("insufficient state", True),
    3011: ("force reconnect", True),
    3012: ("no pong", True),
    3013: ("too many requests", True),
    3014: ("state invalidated", True),
    3500: ("invalid token", False),
    3501: ("bad request", False),
    3502: ("stale", False),
    3503: ("force disconnect", False),
    3504: ("connection limit", False),
    3505: ("channel limit", False),
    3506: ("inappropriate protocol", False),
    3507: ("permission denied", False),
    3508: ("not available", False),
    3509: ("too many errors", False),
}
UNSUBSCRIBES = {
    2000: ("server unsubscribe", False),
    2500: ("insufficient state", True),
    2501: ("subscription expired", True),
    2502: ("state invalidated", True),
}


def test_errors_are_the_protocols() -> None:
    """Code, message, and whether SDKs try again."""
    assert {
        one.code: (one.message, one.temporary) for one in errors.PROTOCOL_ERRORS
    } == ERRORS


def test_own_errors_are_in_the_range_for_them_and_distinct() -> None:
    """400 to 1999, each with a message."""
    codes = [one.code for one in errors.OWN_ERRORS]

    assert len(set(codes)) == len(codes)
    assert all(400 <= code < 2000 for code in codes)
    assert all(one.message for one in errors.OWN_ERRORS)


def test_goodbyes_are_the_protocols() -> None:
    """Code, reason, and whether the client may come back."""
    assert {
        one.code: (one.reason, one.reconnects) for one in close_codes.DISCONNECTS
    } == DISCONNECTS


def test_unsubscribes_are_the_protocols() -> None:
    """Code, reason, and whether the client subscribes again."""
    assert {
        one.code: (one.reason, one.resubscribes) for one in close_codes.UNSUBSCRIBES
    } == UNSUBSCRIBES


@pytest.mark.parametrize("one", [*close_codes.DISCONNECTS, *close_codes.UNSUBSCRIBES])
def test_no_reason_reads_as_json(one: Disconnect | Unsubscribe) -> None:
    """SDKs try that first, and `{}` would mean: stay away."""
    with pytest.raises(json.JSONDecodeError):
        json.loads(one.reason)


@pytest.mark.parametrize("cause", ["short", "x" * 500, "ë" * 100, "🙂" * 50])
def test_a_cause_is_cut_to_what_a_close_frame_holds(cause: str) -> None:
    """Never inside a character."""
    said = close_codes.BAD_REQUEST.because(cause)

    assert said.code == 3501
    assert said.reason.startswith("bad request: ")
    assert len(said.reason.encode()) <= limits.REASON_BYTES_MAX
    assert cause.startswith(said.reason.removeprefix("bad request: "))


@pytest.mark.parametrize(
    ("code", "reconnects"),
    [
        (2999, True),
        (3499, True),
        (3500, False),
        (3999, False),
        (4000, True),
        (4499, True),
        (4500, False),
        (4999, False),
        (5000, True),
    ],
)
def test_the_number_says_whether_a_client_comes_back(
    code: int,
    reconnects: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """3500 to 3999 and 4500 to 4999 are final, for every SDK."""
    assert Disconnect(code, "own").reconnects == reconnects


def test_a_reason_keeps_code_and_temporariness() -> None:
    """The developer reads more, the SDK decides the same."""
    said = errors.because(errors.INTERNAL, "no database")

    assert said == ErrorReply(100, "internal server error: no database", temporary=True)
