"""One mesh with two gateways and two agent replicas, for all tests of a module."""

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.agents_side import AgentsSide, agents_file, settings_for
from support.fake_openai import FakeOpenAI
from support.instances import Instances
from support.meshes import shared_mesh
from support.stories import tell


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def side(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[AgentsSide]:
    folder = tmp_path_factory.mktemp("agents")
    async with FakeOpenAI(tell) as model:
        settings = settings_for(agents_file(folder, model.url))
        async with shared_mesh(
            instances, migrated_template, folder / "logs", agents=2, settings=settings
        ) as mesh:
            yield AgentsSide(mesh, model)


@pytest.fixture
def fresh_model(side: AgentsSide) -> FakeOpenAI:
    """The model, with nothing asked of it yet and nothing scripted."""
    side.model.script.clear()
    side.model.asked.clear()
    return side.model


@pytest.fixture
def key() -> str:
    """Names a story, and with it everything of one test."""
    return secrets.token_hex(4)
