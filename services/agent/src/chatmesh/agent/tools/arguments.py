"""Arguments as they are compared, shown and checked: canonical JSON, digest, schema."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, cast

import jsonschema
import jsonschema.exceptions
import referencing
from jsonschema.protocols import Validator
from referencing.exceptions import Unresolvable

from chatmesh.wire import limits

_ERRORS_TOLD: Final = 5
_ERROR_CHARS_MAX: Final = 300
_SCHEMAS_CACHED: Final = 256


class NoJson(ValueError):
    """A value that JSON cannot hold."""


def canonical(value: object) -> str:
    """The one spelling of a JSON value: keys sorted, no blanks. Raises NoJson."""
    try:
        return json.dumps(
            value,
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise NoJson(str(error)) from error


def digest(text: str) -> str:
    """SHA-256 of canonical JSON, hexadecimal: what an approval is bound to."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def refusal(schema: Mapping[str, Any], arguments: object) -> str | None:
    """Why these arguments cannot be passed on, for the model to read; None: they can."""
    if not isinstance(arguments, Mapping):
        return "arguments are a JSON object"
    try:
        text = canonical(dict(cast("Mapping[str, Any]", arguments)))
    except NoJson as error:
        return f"arguments are no JSON: {error}"
    if len(text.encode(errors="surrogatepass")) > limits.TOOL_ARGUMENTS_BYTES_MAX:
        return f"arguments over {limits.TOOL_ARGUMENTS_BYTES_MAX} bytes"
    if not schema:
        return None if text == "{}" else "this tool takes no arguments"
    return violation(canonical(dict(schema)), json.loads(text))


def violation(schema: str, value: Any) -> str | None:  # noqa: ANN401 - any JSON
    """How a value violates a schema (as canonical JSON), in a sentence; None: it fits."""
    try:
        validator = _validator(schema)
        found = sorted(
            validator.iter_errors(value), key=lambda e: list(map(str, e.path))
        )
    except (
        jsonschema.exceptions.SchemaError,
        Unresolvable,
        RecursionError,
    ) as error:
        return f"the tool's own schema is broken: {type(error).__name__}"
    if not found:
        return None
    told = [
        f"{'.'.join(map(str, error.absolute_path)) or 'value'}: {error.message}"[
            :_ERROR_CHARS_MAX
        ]
        for error in found[:_ERRORS_TOLD]
    ]
    return "; ".join(told)


@lru_cache(maxsize=_SCHEMAS_CACHED)
def _validator(schema: str) -> Validator:
    content = json.loads(schema)
    jsonschema.Draft202012Validator.check_schema(content)
    # A registry of nothing: a schema that refers elsewhere is not fetched, it is broken.
    return jsonschema.Draft202012Validator(content, registry=referencing.Registry())
