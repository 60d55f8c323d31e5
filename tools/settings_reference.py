"""Writes docs/configuration.md and deploy/chatmesh.example.yaml from the settings models.

`python tools/settings_reference.py` writes both, `--check` says which is out of date.
"""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, cast

import msgspec
import pydantic
import yaml

from chatmesh.runtime import settings
from chatmesh.runtime.settings import Leaf, Section, Shared
from chatmesh.wire.namespaces import NamespaceOptions

CHECKOUT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = Path("docs/configuration.md")
EXAMPLE: Final = Path("deploy/chatmesh.example.yaml")

_UNITS: Final = (
    (re.compile(r"_per_s$"), "per second"),
    (re.compile(r"_ms(_max|_min)?$"), "milliseconds"),
    (re.compile(r"_s(_max|_min)?$"), "seconds"),
    (re.compile(r"_bytes(_max|_min)?$"), "bytes"),
)
_TYPE_NAMES: Final[tuple[tuple[object, str], ...]] = (
    (bool, "true or false"),
    (int, "number"),
    (float, "number"),
    (str, "text"),
    (pydantic.SecretStr, "secrets"),
)
_YAML_COLUMNS: Final = 86
_IDENTIFIER: Final = re.compile(r"`([^`]+)`")

INTRODUCTION: Final = """\
# Configuration

<!-- Written by tools/settings_reference.py from the settings models; do not edit. -->

Everything has a default that works on one machine; nothing has to be set to start.

One YAML file serves all services.
`CHATMESH_CONFIG` names it; without it there is none.
Shared keys stand at its top, and each service has a section of its own:

```yaml
amqp_url: amqp://chatmesh:secret@rabbitmq/chatmesh
namespaces:
  room: {history_age_s: 2592000}
gateway:
  port: 8001
  tokens:
    jwks_url: https://id.example/keys
history:
  writers: 2
```

[`deploy/chatmesh.example.yaml`](../deploy/chatmesh.example.yaml) lists every key with its default.

Every key has an environment variable too: `CHATMESH_` and the path to the key, in upper case, joined by `_`.
A variable beats the file, the file beats the default.

| in a variable | written as | example |
| --- | --- | --- |
| numbers, text, `true` and `false` | they stand | `CHATMESH_GATEWAY_PORT=8001` |
| lists | with commas, or as JSON | `CHATMESH_GATEWAY_ALLOWED_ORIGINS=https://a.example,https://b.example` |
| maps, lists of maps | JSON | `CHATMESH_NAMESPACES={"room": {"history_size": 1000}}` |
| nothing | counts as not set | `CHATMESH_GATEWAY_PORT=` |

A service that finds a key or variable it does not know does not start, and says which one was probably meant and on which line it stands.
The sections and variables of other services pass unread.
Secrets are best given as variables; they are never written to a log.
In Kubernetes set `enableServiceLinks: false`: a Service called `chatmesh-gateway` would otherwise set `CHATMESH_GATEWAY_PORT` to an address.
"""

NAMESPACES: Final = """\
## Namespaces

The part of a channel's name before its first `:` is its namespace; bare names are in the namespace called `""`.
A channel in a namespace that is not listed is refused.
The options below stand under `namespaces.<name>`:

"""


def main(arguments: list[str]) -> int:
    """Write both files, or with --check say which would change; returns the exit code."""
    found = list(models())
    wanted = {PAGE: page(found), EXAMPLE: example(found)}
    if arguments == ["--check"]:
        stale = [path for path, text in wanted.items() if _current(path) != text]
        for path in stale:
            print(f"{path} is out of date: `make docs` writes it")
        return 1 if stale else 0
    for path, text in wanted.items():
        (CHECKOUT / path).write_text(text, encoding="utf-8")
    return 0


def _current(path: Path) -> str:
    try:
        return (CHECKOUT / path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def models() -> Iterator[tuple[str, type[Shared]]]:
    """The settings model of every service that there is."""
    for section in settings.SECTIONS:
        if importlib.util.find_spec(f"chatmesh.{section}") is None:
            continue
        if importlib.util.find_spec(f"chatmesh.{section}.settings") is None:
            continue
        module = importlib.import_module(f"chatmesh.{section}.settings")
        found = [
            model
            for model in vars(module).values()
            if isinstance(model, type)
            and issubclass(model, Shared)
            and model.__module__ == module.__name__
        ]
        if len(found) != 1:
            raise SystemExit(f"{module.__name__} wants exactly one model of settings")
        yield section, found[0]


# -- The page -------------------------------------------------------------------------


def page(models: list[tuple[str, type[Shared]]]) -> str:
    """docs/configuration.md, whole."""
    parts = [INTRODUCTION, "## Shared by all services\n", _table(Shared, "")]
    parts.append(NAMESPACES + _namespace_table())
    for section, model in models:
        parts += [f"## {section.capitalize()}\n", _table(model, section)]
    return "\n".join(parts)


def _table(model: type[Shared], section: str) -> str:
    rows = ["| key and variable | default | | meaning |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{leaf.key}`<br>`{leaf.variable}` | {_default_cell(leaf)}"
        f" | {_kind(leaf)} | {_cell(_meaning(leaf))} |"
        for leaf in _own_leaves(model, section)
    ]
    return "\n".join(rows) + "\n"


def _namespace_table() -> str:
    documented = _docstrings(NamespaceOptions)
    rows = ["| option | default | | meaning |", "| --- | --- | --- | --- |"]
    for info in msgspec.structs.fields(NamespaceOptions):
        kind = _choices(info.type) or _unit(info.name) or _type_name(info.type)
        default = _plain(info.default)
        meaning = _cell(documented.get(info.name, ""))
        rows.append(f"| `{info.name}` | `{_short(default)}` | {kind} | {meaning} |")
    return "\n".join(rows) + "\n"


def _own_leaves(model: type[Shared], section: str) -> list[Leaf]:
    wanted = [
        leaf
        for leaf in settings.leaves(model, section)
        if (leaf.path[0] == section) == bool(section)
    ]
    undocumented = [leaf.key for leaf in wanted if not leaf.info.description]
    if undocumented:
        raise SystemExit(f"settings without a meaning: {', '.join(undocumented)}")
    return wanted


def _meaning(leaf: Leaf) -> str:
    return " ".join((leaf.info.description or "").split())


def _default_cell(leaf: Leaf) -> str:
    default = _default(leaf)
    if default in ("", [], {}, None):
        return "*none*"
    if leaf.key == "namespaces":
        return "see below"
    return f"`{_cell(_short(default))}`"


def _default(leaf: Leaf) -> object:
    return _plain(leaf.info.get_default(call_default_factory=True))


def _kind(leaf: Leaf) -> str:
    name = leaf.path[-1]
    bounds = _bounds(leaf.info.metadata)
    kind = _choices(leaf.annotation) or _unit(name) or _type_name(leaf.annotation)
    return f"{kind}{bounds}"


def _unit(name: str) -> str:
    return next((unit for pattern, unit in _UNITS if pattern.search(name)), "")


def _choices(annotation: object) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{choice.value}`" for choice in annotation)
    if typing.get_origin(annotation) is tuple:
        inner = _choices(typing.get_args(annotation)[0])
        return f"list of {inner}" if inner else ""
    return ""


def _type_name(annotation: object) -> str:
    """What a person writes for it."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type_name(inside[0])
    if origin in {tuple, list, set, frozenset}:
        inner = _type_name(inside[0])
        return f"list of {inner}" if inner != "text" else "list"
    if origin is dict:
        return "map"
    if origin in {typing.Union, types.UnionType}:
        some = [option for option in inside if option is not type(None)]
        return " or ".join(map(_type_name, some))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "maps of " + ", ".join(f"`{name}`" for name in annotation.model_fields)
    return next((name for known, name in _TYPE_NAMES if annotation is known), "")


def _bounds(metadata: list[Any]) -> str:
    """` ≥ 1`, ` from 0 to 65535`: what the model refuses anything beyond of."""
    found: dict[str, object] = {}
    for constraint in metadata:
        for name in ("ge", "gt", "le", "lt"):
            if (value := getattr(constraint, name, None)) is not None:
                found[name] = value
    if "ge" in found and "le" in found:
        return f", {found['ge']} to {found['le']}"
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return "".join(f", {signs[name]} {value}" for name, value in found.items())


def _plain(value: object) -> object:
    """A default as YAML and JSON can say it."""
    if isinstance(value, NamespaceOptions):
        return msgspec.to_builtins(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        entries = cast("dict[object, object]", value)
        return {key: _plain(inner) for key, inner in entries.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(inner) for inner in cast("tuple[object, ...]", value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _short(default: object) -> str:
    if isinstance(default, str):
        return default or '""'
    return json.dumps(default, ensure_ascii=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _docstrings(owner: type) -> dict[str, str]:
    """The text under each field of a class, as an editor shows it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    field = ""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            field = node.target.id
            continue
        if (
            field
            and isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            found[field] = " ".join(node.value.value.split())
        field = ""
    return found


# -- The example ----------------------------------------------------------------------


def example(models: list[tuple[str, type[Shared]]]) -> str:
    """deploy/chatmesh.example.yaml, whole: every key, commented out, at its default."""
    lines = [
        "# Every setting of chatmesh at its default. Copy it, keep what you change, and",
        "# name it in CHATMESH_CONFIG. docs/configuration.md says more.",
        "# Written by tools/settings_reference.py from the settings models; do not edit.",
        "",
    ]
    for leaf in _own_leaves(Shared, ""):
        lines += _entry(leaf, indent=0)
    for section, model in models:
        lines += [f"{section}:"]
        open_groups: tuple[str, ...] = ()
        for leaf in _own_leaves(model, section):
            groups = leaf.path[1:-1]
            if groups != open_groups:
                lines += [f"{'  ' * len(groups)}{groups[-1]}:"] if groups else []
                open_groups = groups
            lines += _entry(leaf, indent=len(leaf.path) - 1)
    return "\n".join(lines).rstrip() + "\n"


def _entry(leaf: Leaf, indent: int) -> list[str]:
    margin = "  " * indent
    meaning = _IDENTIFIER.sub(r"\1", _meaning(leaf))
    comments = textwrap.wrap(
        meaning,
        _YAML_COLUMNS,
        initial_indent=f"{margin}# ",
        subsequent_indent=f"{margin}# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    written = yaml.safe_dump(
        {leaf.path[-1]: _default(leaf)}, allow_unicode=True, sort_keys=False, width=1000
    )
    if leaf.key == "namespaces":
        # Options left out are default options; the page explains each of them.
        names = cast("dict[str, dict[str, object]]", _default(leaf))
        ordinary = msgspec.to_builtins(NamespaceOptions())
        written = "namespaces:"
        for name, options in names.items():
            own = {k: v for k, v in options.items() if v != ordinary[k]}
            written += f'\n  "{name}": {json.dumps(own)}'
    values = [f"{margin}#{line}" for line in written.splitlines()]
    return [*comments, *values, ""]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
