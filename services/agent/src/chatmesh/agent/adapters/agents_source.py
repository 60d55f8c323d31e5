"""The agents file as it stands now, and the models it names."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from chatmesh.agent.adapters.scripted_model import ScriptedModel as Script
from chatmesh.agent.agents import (
    Agent,
    AgentsFile,
    AgentsFileError,
    HostedModel,
    ScriptedModel,
    parse,
    shipped,
)
from chatmesh.agent.performance import Models
from chatmesh.agent.ports import Model
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import heed_cancellation

_log = logging.getLogger(__name__)

_SCRIPTED: Final = ScriptedModel(kind="scripted")


class AgentsSource:
    """Reads the file at the start, and again whenever it changes.

    A file that has become wrong changes nothing: the agents stay as they were, the log
    says what is wrong with it, and so does `trouble`.
    """

    def __init__(
        self,
        path: str,
        *,
        keys: Mapping[str, str],
        window_s: Callable[[], float],
        clock: Clock,
        check_s: float,
    ) -> None:
        """`window_s`: how long a model's text may be gathered, as it is wanted just now."""
        self._path = Path(path) if path else None
        self._keys = keys
        self._window_s = window_s
        self._clock = clock
        self._check_s = check_s
        self._seen: bytes = b""
        self._models: dict[str, Models] = {}
        self._file = AgentsFile(agents={})
        self.trouble = ""

    def __call__(self) -> AgentsFile:
        """The agents there are now."""
        return self._file

    def models(self, agent: Agent) -> Models:
        """The model behind an agent; that of an agent nobody knows any more is scripted."""
        found = self._models.get(agent.model)
        if found is None:
            return Models(Script(self._clock, _SCRIPTED.words_per_s), _SCRIPTED)
        return found

    async def load(self) -> None:
        """Read the file for the first time. Raises AgentsFileError."""
        await self._take(await asyncio.to_thread(self._read))

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while self._path is not None:
            heed_cancellation()
            await self._clock.sleep(self._check_s)
            try:
                text = await asyncio.to_thread(self._read)
                if text != self._seen:
                    await self._take(text)
                    _log.info(
                        "agents read anew", extra={"agents": len(self._file.agents)}
                    )
            except AgentsFileError as error:
                if str(error) != self.trouble:
                    self.trouble = str(error)
                    _log.warning(
                        "agents stay as they were", extra={"cause": str(error)}
                    )

    def _read(self) -> bytes:
        if self._path is None:
            return b""
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise AgentsFileError(
                f"cannot read the agents file {self._path}: {error.strerror}"
            ) from error

    async def _take(self, text: bytes) -> None:
        if self._path is None:
            found = await asyncio.to_thread(shipped)
        else:
            self._seen = text
            try:
                found = parse(text.decode(), name=str(self._path))
            except UnicodeDecodeError as error:
                raise AgentsFileError(f"{self._path} is not UTF-8 text") from error
        # Imports of model libraries and reading of key stores block.
        self._models = await asyncio.to_thread(self._built, found)
        self._file = found
        self.trouble = ""

    def _built(self, found: AgentsFile) -> dict[str, Models]:
        built: dict[str, Models] = {}
        used = {agent.model for agent in found.agents.values()}
        for name in used:
            choice = found.models.get(name, _SCRIPTED)
            known = self._models.get(name)
            if known is not None and known.choice == choice:
                # Keeps its connections.
                built[name] = known
            else:
                built[name] = Models(self._build(choice), choice)
        return built

    def _build(self, choice: HostedModel | ScriptedModel) -> Model:
        if isinstance(choice, ScriptedModel):
            return Script(self._clock, choice.words_per_s)
        if choice.key and choice.key not in self._keys:
            raise AgentsFileError(
                f"model {choice.name!r} wants the key {choice.key!r},"
                " which the setting agent.model_keys does not have"
            )
        # Only where a hosted model is wanted: its library takes a second and 60 MB.
        from chatmesh.agent.adapters.hosted_model import build  # noqa: PLC0415

        try:
            return build(
                choice,
                self._keys.get(choice.key, ""),
                window_s=self._window_s,
                clock=self._clock,
            )
        except AgentsFileError:
            raise
        except Exception as error:
            # Whatever a library has against an entry: the other agents go on.
            raise AgentsFileError(
                f"model {choice.name!r} of kind {choice.kind} cannot be used: {error}"
            ) from error
