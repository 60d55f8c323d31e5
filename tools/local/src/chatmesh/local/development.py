"""The settings that make a mesh one for a single person's machine, and only those.

Switched on by `make run`, the tests and the demo; never a default of a service.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chatmesh.wire.development import DEVELOPMENT_SECRET

DRAIN_WINDOW_S: Final = 0.5
"""There are a handful of clients, and Ctrl-C is to be quick."""

_SECRETS: Final = "CHATMESH_GATEWAY_TOKENS_HMAC_SECRETS"


def development_settings(
    environ: Mapping[str, str], *, page: Path | None
) -> dict[str, str]:
    """Variables for all services; what the caller has set already wins."""
    settings = {
        "CHATMESH_GATEWAY_DEVELOPMENT": "true",
        _SECRETS: DEVELOPMENT_SECRET,
        "CHATMESH_GATEWAY_DRAIN_WINDOW_S": str(DRAIN_WINDOW_S),
        "CHATMESH_HISTORY_DRAIN_S": "2",
    }
    if page is not None:
        settings["CHATMESH_GATEWAY_PAGE"] = str(page)
    return {name: value for name, value in settings.items() if not environ.get(name)}
