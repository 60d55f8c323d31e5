"""Arguments as they are compared, shown and checked: canonical JSON, digest, schema."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, cast

import jsonschema
import jsonschema.exceptions
import jsonschema.validators
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
    """How a value violates a schema (as canonical JSON), in a sentence; None: it fits.

    Only the first mistakes are looked for: there may be as many as the value has parts.
    """
    try:
        validator = _validator(schema)
        found = list(islice(validator.iter_errors(value), _ERRORS_TOLD))
    except (
        jsonschema.exceptions.SchemaError,
        Unresolvable,
        RecursionError,
        re.error,
    ) as error:
        return f"the tool's own schema is broken: {type(error).__name__}"
    if not found:
        return None
    told = [
        f"{'.'.join(map(str, error.absolute_path)) or 'value'}: {error.message}"[
            :_ERROR_CHARS_MAX
        ]
        for error in sorted(found, key=lambda one: list(map(str, one.path)))
    ]
    return "; ".join(told)


def kind_violation(schema: str, value: Any) -> str | None:  # noqa: ANN401 - any JSON
    """Like `violation`, for values too large to look into: only what kind they are of."""
    kind: object = cast("dict[str, object]", json.loads(schema)).get("type")
    if kind is None or violation(canonical({"type": kind}), value) is None:
        return None
    return f"not of type {kind}"


def schema_refusal(schema: Mapping[str, Any]) -> str | None:
    """Why something is no JSON Schema, in a sentence; None: it is one."""
    try:
        _validator(canonical(dict(schema)))
    except jsonschema.exceptions.SchemaError as error:
        return error.message[:_ERROR_CHARS_MAX]
    except (NoJson, Unresolvable, RecursionError) as error:
        return type(error).__name__
    return None


def _any_of(
    validator: Validator, choices: Sequence[Any], value: object, schema: object
) -> Iterator[jsonschema.ValidationError]:
    """`anyOf` that keeps nothing of the mistakes in each choice: they are without number."""
    del schema
    if not any(_fits(validator, choice, value) for choice in choices):
        yield jsonschema.ValidationError("fits none of the choices")


def _one_of(
    validator: Validator, choices: Sequence[Any], value: object, schema: object
) -> Iterator[jsonschema.ValidationError]:
    """`oneOf`, likewise."""
    del schema
    if (fitting := sum(_fits(validator, choice, value) for choice in choices)) != 1:
        yield jsonschema.ValidationError(f"fits {fitting} of the choices, not one")


def _fits(validator: Validator, choice: object, value: object) -> bool:
    return cast("Any", validator).evolve(schema=choice).is_valid(value)


def _unique(
    validator: Validator, wanted: object, value: object, schema: object
) -> Iterator[jsonschema.ValidationError]:
    """`uniqueItems` in one pass; the library compares each object with each."""
    del validator, schema
    if not wanted or not isinstance(value, list):
        return
    items = cast("list[object]", value)
    if len({canonical(_plain(one)) for one in items}) < len(items):
        yield jsonschema.ValidationError("has the same item twice")


def _plain(value: object) -> object:
    """A value in which numbers that are equal are spelt alike."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[object]", value)]
    if isinstance(value, dict):
        known = cast("dict[str, object]", value)
        return {key: _plain(one) for key, one in known.items()}
    return value


_BOUNDED: Final = cast(
    "type[Validator]",
    cast("Any", jsonschema.validators).extend(
        jsonschema.Draft202012Validator,
        {"anyOf": _any_of, "oneOf": _one_of, "uniqueItems": _unique},
    ),
)


@lru_cache(maxsize=_SCHEMAS_CACHED)
def _validator(schema: str) -> Validator:
    content = json.loads(schema)
    jsonschema.Draft202012Validator.check_schema(content)
    # A registry of nothing: a schema that refers elsewhere is not fetched, it is broken.
    return cast("Any", _BOUNDED)(content, registry=cast("Any", referencing.Registry)())
