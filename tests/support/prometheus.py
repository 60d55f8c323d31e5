"""The system's Prometheus and promtool, installed where that needs no question."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from chatmesh.local import ports, prometheus
from chatmesh.local.trouble import Trouble
from support.eventually import eventually

STARTED_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 20.0
SCRAPE_EVERY_S = 1


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where there is none."""
    try:
        return prometheus.program(name, say=print)
    except Trouble as trouble:
        pytest.skip(str(trouble))


def promtool(*words: str) -> str:
    """Run promtool; gives its output, also of a failure, for the assertion to show."""
    done = subprocess.run(
        [program("promtool"), *words], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


class Prometheus:
    """A running one, asked over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        async with httpx.AsyncClient(timeout=ANSWERS_WITHIN_S, trust_env=False) as http:
            found = await http.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert found.status_code != httpx.codes.SERVICE_UNAVAILABLE, "it still starts"
        answer = found.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def value(self, query: str) -> list[dict[str, Any]]:
        return (await self.ask("query", query=query))["result"]

    async def names(self) -> set[str]:
        """Every metric name it has ever seen."""
        return set(await self.ask("label/__name__/values"))


@asynccontextmanager
async def running_prometheus(
    folder: Path,
    targets: Mapping[str, Sequence[str]],
    *,
    rules: Sequence[Path] = (),
) -> AsyncGenerator[Prometheus]:
    """Scrape `targets`, by job; with `rabbitmq` among them its queues as well."""
    config = prometheus.configuration(targets, rules=rules, every_s=SCRAPE_EVERY_S)
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    port = ports.free_port()
    words = prometheus.words(
        program("prometheus"), config=file, data=folder / "data", port=port
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")

        async def answers() -> bool:
            assert process.returncode is None, (folder / "prometheus.log").read_text()
            try:
                await found.ask("query", query="1")
            except httpx.TransportError as error:
                raise AssertionError(str(error)) from error
            return True

        await eventually(answers, within_s=STARTED_WITHIN_S)
        yield found
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
