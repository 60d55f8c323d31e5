"""What publications, infos and data may hold, by whichever door they come."""

import base64
import binascii
from typing import Final

from chatmesh.wire import client_json, limits
from chatmesh.wire.infos import on_one_line
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


class Unfit(ValueError):
    """What is given is neither JSON nor, in base64, bytes; says what is wrong with it."""


def given(raw: bytes, in_base64: str | None, name: str) -> bytes:
    """An info or data: JSON on one line or, given in base64, any bytes.

    Empty when there is none; JSON null is none. What is larger than any client could
    have brought is none that others, presence among them, have to take. Raises Unfit.
    """
    data = base64_of(in_base64, f"b64{name}") if in_base64 else raw
    if data in {b"", b"null"}:
        return b""
    if len(data) > limits.COMMAND_BYTES_MAX:
        raise Unfit(f"{name} over {limits.COMMAND_BYTES_MAX} bytes")
    if too_deep(data):
        raise Unfit(f"{name}: {TOO_DEEP}")
    line = on_one_line(data)
    if line is None and not in_base64:
        raise Unfit(f"{name} is no JSON")
    return data if line is None else line


def base64_of(text: str, name: str) -> bytes:
    """Raises Unfit."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unfit(f"{name} is no base64") from error
