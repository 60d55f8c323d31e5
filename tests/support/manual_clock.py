"""Time that stands still until a test moves it."""

import asyncio

UNIX_S = 1_700_000_000


class ManualClock:
    """Monotonic and Unix time move together; `sleep` waits for `pass_time`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return int((UNIX_S + self.now_s) * 1000)

    async def sleep(self, seconds: float) -> None:
        if not seconds:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._sleeping.append((self.now_s + seconds, woken))
        await woken

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        due = [one for one in self._sleeping if one[0] <= self.now_s]
        self._sleeping = [one for one in self._sleeping if one[0] > self.now_s]
        for _, woken in due:
            if not woken.done():
                woken.set_result(None)


async def settle(turns: int = 20) -> None:
    """Let everything that is ready to run in this loop run."""
    for _ in range(turns):
        await asyncio.sleep(0)
