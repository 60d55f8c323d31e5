"""Sending: the same id until there is an answer, and an honest end if there is none."""

import asyncio
import random

import pytest

from chatmesh.cli.sending import (
    RETRY_CAP_S,
    Confirmed,
    Draft,
    Failed,
    RefusedError,
    TryAgainError,
    deliver,
)

LOST = TryAgainError("the connection was lost")
AWAY = TryAgainError("no connection", sent=False)


class ManualClock:
    """Sleeping moves the time, and takes none."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return int(self.now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


class Gateway:
    """Answers one attempt after the other as it was told to."""

    def __init__(self, *answers: Confirmed | Exception) -> None:
        self.answers = list(answers)
        self.heard: list[Draft] = []

    async def __call__(self, draft: Draft) -> Confirmed:
        self.heard.append(draft)
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Sender:
    """Delivers with a clock of its own and keeps what was told on the way."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: list[str] = []

    async def __call__(
        self, gateway: Gateway, give_up_s: float = 60
    ) -> Confirmed | Failed:
        return await deliver(
            Draft("hello"),
            gateway,
            clock=self.clock,
            give_up_s=give_up_s,
            chance=random.Random(1),
            retrying=self.told.append,
        )


@pytest.fixture
def sender() -> Sender:
    return Sender()


async def test_one_attempt_is_enough_when_it_is_answered(sender: Sender) -> None:
    """The ordinary case."""
    assert await sender(Gateway(Confirmed(7))) == Confirmed(7)
    assert sender.told == []


async def test_it_is_repeated_with_the_same_id(sender: Sender) -> None:
    """Otherwise a lost answer would become a second message."""
    gateway = Gateway(LOST, TryAgainError("no answer in time"), Confirmed(7))

    assert await sender(gateway) == Confirmed(7)

    assert len(gateway.heard) == 3
    assert len({draft.id for draft in gateway.heard}) == 1
    assert sender.told == ["the connection was lost", "no answer in time"]


async def test_a_refusal_is_final(sender: Sender) -> None:
    """What is not allowed now is not asked again, and surely did not arrive."""
    gateway = Gateway(RefusedError("permission denied", 103))

    assert await sender(gateway) == Failed("permission denied", unknown=False)
    assert len(gateway.heard) == 1


async def test_time_is_bounded_and_the_doubt_is_said(sender: Sender) -> None:
    """It may have arrived: nobody ever said no."""
    outcome = await sender(Gateway(LOST), give_up_s=30)

    assert isinstance(outcome, Failed)
    assert outcome.unknown
    assert "given up after 30 s" in outcome.reason
    assert 30 - RETRY_CAP_S <= sender.clock.now_s <= 30


async def test_what_never_left_is_not_in_doubt(sender: Sender) -> None:
    """Without a connection there is nothing that could have arrived."""
    outcome = await sender(Gateway(AWAY), give_up_s=10)

    assert isinstance(outcome, Failed)
    assert not outcome.unknown
    assert sender.told == []


async def test_one_attempt_that_left_is_enough_for_doubt(sender: Sender) -> None:
    """Also when all later ones found no connection."""
    outcome = await sender(Gateway(LOST, AWAY), give_up_s=10)

    assert isinstance(outcome, Failed)
    assert outcome.unknown


def test_every_draft_has_an_id_of_its_own() -> None:
    """Saying the same twice is two messages."""
    assert len({Draft("hello").id for _ in range(1000)}) == 1000
