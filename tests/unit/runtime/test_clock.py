"""The machine's clocks, in the units they promise."""

import time

from chatmesh.runtime.clock import Clock, SystemClock


async def test_the_clocks_tell_time_in_their_units() -> None:
    """Unix time is in milliseconds, elapsed time in seconds, and sleep sleeps."""
    clock: Clock = SystemClock()
    before_s = clock.monotonic_s()

    await clock.sleep(0.01)

    assert 0.009 <= clock.monotonic_s() - before_s < 5
    assert abs(clock.unix_ms() - time.time() * 1000) < 5000
