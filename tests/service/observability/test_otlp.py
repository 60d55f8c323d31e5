"""Spans on their way to a collector: all of them, in time, and never in the way."""

import logging
import time
from collections.abc import Callable

import pytest

from chatmesh.runtime import otlp
from chatmesh.runtime.otlp import PIECES_PER_REQUEST_MAX, WAITING_PIECES_MAX
from chatmesh.runtime.tracing import Tracing, to_collector
from support.otlp_receiver import otlp_receiver

pytestmark = pytest.mark.timeout(30)

SOON_S = 3.0
NOWHERE = "http://.collector"


def tracing_to(url: str) -> Tracing:
    return to_collector(url, ratio=1.0, service="test", instance="1", version="0")


def tell(tracing: Tracing, spans: int) -> None:
    for _ in range(spans):
        tracing.begin_trace("message.send").end()


def soon(true: Callable[[], bool]) -> None:
    """Without a loop: opening a tracing blocks, which tests with one forbid."""
    until_s = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_what_waits_is_sent_at_the_end() -> None:
    """A process that ends leaves no span behind."""
    with otlp_receiver() as collector:
        tracing = tracing_to(collector.url)
        tell(tracing, 3)

        tracing.shut_down()

        assert [span.name for span in collector.spans] == ["message.send"] * 3


def test_many_spans_do_not_wait_for_their_time() -> None:
    """A request is full, so it goes; the queue is for the moment, not for an hour."""
    with otlp_receiver() as collector:
        tracing = tracing_to(collector.url)

        tell(tracing, PIECES_PER_REQUEST_MAX)

        soon(lambda: len(collector.spans) == PIECES_PER_REQUEST_MAX)
        tracing.shut_down()


@pytest.mark.parametrize("url", ["", NOWHERE], ids=["away", "no address"])
def test_a_collector_that_is_away_costs_spans_and_one_line_in_the_log(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who records has to wait, and whatever goes wrong does not end the sender."""
    monkeypatch.setattr(otlp, "EXPORT_EVERY_S", 0.01)
    with otlp_receiver() as collector:
        away = collector.url
    tracing = tracing_to(url or away)

    with caplog.at_level(logging.WARNING):
        tell(tracing, 1)
        soon(lambda: bool(caplog.records))
        tell(tracing, 2 * WAITING_PIECES_MAX)
        tracing.shut_down()

    assert [record.message for record in caplog.records] == ["spans are dropped"]


def test_a_trickle_goes_in_few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while a request is on its way waits for the next: each costs time."""
    monkeypatch.setattr(otlp, "EXPORT_EVERY_S", 0.2)
    with otlp_receiver() as collector:
        tracing = tracing_to(collector.url)
        for _ in range(60):
            tell(tracing, 1)
            time.sleep(0.01)
        tracing.shut_down()

        assert len(collector.spans) == 60
        assert collector.requests <= 6
