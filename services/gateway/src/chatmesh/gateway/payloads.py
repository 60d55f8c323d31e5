"""What a publication may hold, by whichever door it comes."""

from typing import Final

from chatmesh.wire import client_json, limits
from chatmesh.wire.namespaces import NamespaceOptions
from chatmesh.wire.nesting import too_deep

TOO_DEEP: Final = f"JSON nested over {limits.JSON_DEPTH_MAX} levels"
"""Said of what some reader behind us could not take apart."""
NOT_JSON: Final = "only JSON is published here"
"""Said where members that speak JSON would be closed by anything else."""


def refuses(data: bytes, options: NamespaceOptions | None) -> str | None:
    """Why a payload is not published under these options, or None."""
    if too_deep(data):
        return TOO_DEEP
    if options is not None and options.json_only:
        try:
            client_json.embeddable(data)
        except client_json.BinaryPayload:
            return NOT_JSON
    return None
