"""The configuration page and the example file: complete, true, and usable."""

import re
from pathlib import Path

import pytest
from tools import settings_reference

from chatmesh.gateway.settings import GatewaySettings
from chatmesh.runtime import settings
from chatmesh.runtime.settings import Shared

CHECKOUT = Path(__file__).resolve().parents[3]
MODELS: list[tuple[str, type[Shared]]] = [("gateway", GatewaySettings)]


def test_every_key_and_variable_is_on_the_page() -> None:
    """Nothing can be set that nobody can find."""
    page = settings_reference.page(MODELS)

    for leaf in settings.leaves(GatewaySettings, "gateway"):
        assert f"`{leaf.key}`<br>`{leaf.variable}`" in page


def test_the_example_as_it_is_changes_nothing(tmp_path: Path) -> None:
    """It can be copied and named before anything in it is changed."""
    file = tmp_path / "chatmesh.yaml"
    file.write_text(settings_reference.example(MODELS))

    loaded = settings.load(GatewaySettings, section="gateway", path=file, environ={})

    assert loaded == GatewaySettings()


def test_the_example_with_everything_switched_on_is_the_default(tmp_path: Path) -> None:
    """Every line in it is a valid key at its true default."""
    text = settings_reference.example(MODELS)
    file = tmp_path / "chatmesh.yaml"
    file.write_text(re.sub(r"(?m)^( *)#(?! )", r"\1", re.sub(r"(?m)^#  ", "  ", text)))

    loaded = settings.load(GatewaySettings, section="gateway", path=file, environ={})

    assert loaded == GatewaySettings()
    assert "port" in loaded.model_fields_set


@pytest.mark.parametrize("path", [settings_reference.PAGE, settings_reference.EXAMPLE])
def test_the_committed_files_name_no_machine(path: Path) -> None:
    """They are written on somebody's machine and read on all others."""
    text = (CHECKOUT / path).read_text(encoding="utf-8")

    assert str(CHECKOUT) not in text
