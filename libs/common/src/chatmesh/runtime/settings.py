"""Settings from one YAML file for all services, and from `CHATMESH_…` variables.

The file has the shared keys at its top and one section per service. A service reads the
shared keys and its own section; the sections of others pass unread. Every key has a
variable, `CHATMESH_` and its path: `gateway.port` is `CHATMESH_GATEWAY_PORT`. A
variable beats the file, the file beats the default. A variable that is set to nothing
counts as not set.

What is not known is refused, with the line, and with the key that was probably meant:
a misspelt limit that silently stays at its default is worse than a process that does
not start.
"""

import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from chatmesh.runtime import settings_file
from chatmesh.runtime.settings_file import Document, SettingsError
from chatmesh.wire import channels
from chatmesh.wire.namespaces import NamespaceOptions, Who

PREFIX: Final = "CHATMESH_"
CONFIG_VARIABLE: Final = "CHATMESH_CONFIG"
"""Names the settings file; without it there is none."""

SECTIONS: Final = ("gateway", "history", "presence", "agent")
"""Services of this mesh; each has a section of the file and of the variables."""

_TOOL_VARIABLES: Final = (
    CONFIG_VARIABLE,
    "CHATMESH_URL",
    "CHATMESH_TOKEN",
    "CHATMESH_USER",
    "CHATMESH_SECRET",
)
_TOOL_PREFIXES: Final = tuple(
    f"{PREFIX}{tool}_" for tool in ("LOCAL", "TESTS", "BENCH", "CHAOS", "DEMO")
)
# What Kubernetes adds to every container beside a Service called chatmesh-….
_SERVICE_LINK: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_\w+$"
)
_SERVICE_LINK_VALUE: Final = re.compile(r"^(tcp|udp|sctp)://")

Path_ = tuple[str, ...]


class Section(pydantic.BaseModel):
    """Base of every group of settings: unknown keys refused, values never changed."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
        validate_default=True,
        allow_inf_nan=False,
    )


class _BadNamespace(ValueError):
    """A namespace's options are wrong at one key."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def _namespace_options(value: object) -> NamespaceOptions:
    if value is None:
        return NamespaceOptions()
    if isinstance(value, NamespaceOptions):
        options = value
    elif isinstance(value, Mapping):
        given = typing.cast("Mapping[str, object]", value)
        for key in given:
            if key not in NamespaceOptions.__struct_fields__:
                known = NamespaceOptions.__struct_fields__
                raise _BadNamespace(str(key), f"unknown key{_meant(str(key), known)}")
        try:
            options = msgspec.convert(given, NamespaceOptions)
        except msgspec.ValidationError as error:
            reason, _, where = str(error).partition(" - at `$.")
            raise _BadNamespace(where.rstrip("`"), reason) from error
    else:
        raise ValueError("wants a map of options")  # noqa: TRY004 - pydantic reports these
    if options.subscribe is Who.SUBSCRIBERS:
        raise _BadNamespace(
            "subscribe",
            "subscribers cannot be who may subscribe: say users or everyone",
        )
    if options.cache_recovery and not options.durable:
        raise _BadNamespace(
            "cache_recovery", "wants durable: there is nothing to recover"
        )
    positions = options.durable and options.recover and options.positioned
    if options.force_recovery and not positions:
        raise _BadNamespace("force_recovery", "wants durable, recover and positioned")
    return options


def _namespace_name(name: str) -> str:
    example = f"{name}{channels.NAMESPACE_BOUNDARY}x" if name else "x"
    if channels.refusal(example) or channels.namespace_of(example) != name:
        raise ValueError(
            "no namespace name: printable ASCII without blanks, #, $ and :"
        )
    return name


Namespaces = dict[
    Annotated[str, pydantic.AfterValidator(_namespace_name)],
    Annotated[NamespaceOptions, pydantic.BeforeValidator(_namespace_options)],
]


class Shared(Section):
    """What all services of one mesh have to agree on, or have alike."""

    # Both may carry a password, so neither is shown with the rest.
    amqp_url: Annotated[str, pydantic.Field(repr=False)] = (
        "amqp://guest:guest@127.0.0.1:5672/"
    )
    """The RabbitMQ that connects the services; its path is the virtual host. Several nodes of one cluster, with commas: whoever loses one goes on with another."""

    database_url: Annotated[str, pydantic.Field(repr=False)] = (
        "postgresql://chatmesh@127.0.0.1:5432/chatmesh"
    )
    """PostgreSQL of the services that keep something."""

    prefix: Annotated[str, pydantic.Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = (
        "chatmesh"
    )
    """First word of every exchange and queue: two meshes on one virtual host differ in it."""

    namespaces: Namespaces = {
        channels.DEFAULT_NAMESPACE: NamespaceOptions(),
        channels.ROOM_NAMESPACE: NamespaceOptions(
            json_only=True, presence=True, join_leave=True
        ),
    }
    """Options by namespace; the empty name is the one of bare channel names. Naming any replaces all defaults."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe record that is written."""

    log_format: Literal["text", "json"] = "text"
    """One line per record, for people or for machines."""

    trace_endpoint: str = ""
    """OpenTelemetry collector for traces, OTLP over HTTP, as `http://collector:4318`. Empty: no traces."""

    trace_ratio: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.01
    """Share of the traces beginning in this mesh that are kept; a client's own decision goes before."""

    crash_at: str = ""
    """Die at this checkpoint (`label` or `label:n`). For chaos tests, never for production."""


M = TypeVar("M", bound=Shared)


class Leaf(NamedTuple):
    """One setting that can be given a value: a key of the file and a variable."""

    path: Path_
    """As in the file: section first, if it is in one."""
    variable: str
    annotation: object
    info: FieldInfo

    @property
    def key(self) -> str:
        return ".".join(self.path)


def leaves(model: type[Shared], section: str) -> Iterator[Leaf]:
    """Every setting of a service: the shared ones first, then those of its section."""
    for name, info in model.model_fields.items():
        if name in Shared.model_fields:
            yield from _leaves_of((name,), info)
    for name, info in model.model_fields.items():
        if name not in Shared.model_fields:
            yield from _leaves_of((section, name), info)


def load(
    model: type[M], *, section: str, path: Path | None, environ: Mapping[str, str]
) -> M:
    """Read the settings of one service. Raises SettingsError, one line per mistake.

    `section` names the service's part of the file; empty for a tool that reads only
    what is shared. `path` is the file; None means the one `CHATMESH_CONFIG` names, if
    any.
    """
    own = set(model.model_fields) - set(Shared.model_fields)
    if own and section not in SECTIONS:
        raise AssertionError(f"{section!r} is no section; see settings.SECTIONS")
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    document = settings_file.read(path) if path is not None else Document()
    given = _Given(section, document)
    given.take_file(model)
    given.take_variables(model, environ)
    if given.problems:
        raise SettingsError("\n".join(given.problems))
    try:
        return model.model_validate(given.values)
    except pydantic.ValidationError as error:
        mistakes = [given.describe(model, mistake) for mistake in error.errors()]
        raise SettingsError("\n".join(mistakes)) from None


@dataclass(slots=True)
class _Given:
    """What file and variables say for one model, and from where."""

    section: str
    document: Document
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    variables: dict[Path_, str] = field(default_factory=dict[Path_, str])
    problems: list[str] = field(default_factory=list[str])

    def take_file(self, model: type[Shared]) -> None:
        shared = Shared.model_fields
        for key, value in self.document.values.items():
            if key in shared:
                self.values[key] = value
            elif key not in SECTIONS:
                self._refuse((key,), f"unknown key{_meant(key, (*shared, *SECTIONS))}")
        section: object = self.document.values.get(self.section) or {}
        if not isinstance(section, dict):
            self._refuse((self.section,), "wants keys of its own below it")
            return
        for key, value in typing.cast("dict[str, Any]", section).items():
            if key in shared:
                hint = "shared by all services, so it stands at the top of the file"
                self._refuse((self.section, key), hint)
            else:
                self.values[key] = value
        _drop_empty_groups(self.values, model)

    def take_variables(self, model: type[Shared], environ: Mapping[str, str]) -> None:
        known = {leaf.variable: leaf for leaf in leaves(model, self.section)}
        for name in sorted(environ):
            if not name.startswith(PREFIX):
                continue
            if (leaf := known.get(name)) is not None:
                if environ[name]:
                    self._take_variable(leaf, environ[name])
            elif not self._belongs_to_others(name):
                hint = _meant(name, (*known, *_TOOL_VARIABLES))
                self.problems.append(f"{name}: unknown variable{hint}")

    def describe(self, model: type[Shared], mistake: ErrorDetails) -> str:
        """One sentence for what the model refused: where it stands and what is wrong."""
        where: Path_ = tuple(str(part) for part in mistake["loc"] if part != "[key]")
        cause = mistake.get("ctx", {}).get("error")
        if isinstance(cause, _BadNamespace) and cause.key:
            where = (*where, *cause.key.split("."))
        reason = str(mistake["msg"]).removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            reason = f"unknown key{_meant(where[-1], _keys_at(model, where[:-1]))}"
        variable = self._variable_of(where)
        in_file = self._path_in_file(where)
        if variable is not None:
            return f"{variable}: {_lowered(reason)}"
        return f"{self._place(in_file)}: {_lowered(reason)}"

    def _take_variable(self, leaf: Leaf, text: str) -> None:
        if _SERVICE_LINK_VALUE.match(text) and not leaf.variable.endswith("_URL"):
            self.problems.append(
                f"{leaf.variable}: {text} is what Kubernetes sets for a Service of this"
                " name; set enableServiceLinks: false in the pod"
            )
            return
        try:
            value = _from_text(leaf.annotation, text)
        except ValueError as error:
            self.problems.append(f"{leaf.variable}: {error}")
            return
        path = leaf.path[1:] if leaf.path[0] == self.section else leaf.path
        group = self.values
        for part in path[:-1]:
            # Copied: what the file says stays as it was read.
            group[part] = dict(group.get(part) or {})
            group = group[part]
        group[path[-1]] = value
        self.variables[path] = leaf.variable

    def _belongs_to_others(self, name: str) -> bool:
        others = tuple(
            f"{PREFIX}{section.upper()}_"
            for section in SECTIONS
            if section != self.section
        )
        return (
            name in _TOOL_VARIABLES
            or name.startswith((*_TOOL_PREFIXES, *others))
            or _SERVICE_LINK.search(name) is not None
        )

    def _variable_of(self, where: Path_) -> str | None:
        for length in range(len(where), 0, -1):
            if variable := self.variables.get(where[:length]):
                return variable
        return None

    def _path_in_file(self, where: Path_) -> Path_:
        shared = not where or where[0] in Shared.model_fields
        return where if shared else (self.section, *where)

    def _place(self, path: Path_) -> str:
        key = ".".join(path) or self.section or "settings"
        place = self.document.place(path)
        return f"{place}: {key}" if place else key

    def _refuse(self, path: Path_, reason: str) -> None:
        self.problems.append(f"{self._place(path)}: {reason}")


def _leaves_of(path: Path_, info: FieldInfo) -> Iterator[Leaf]:
    group = _group_in(info.annotation)
    if group is None:
        variable = PREFIX + "_".join(path).upper()
        yield Leaf(path, variable, info.annotation, info)
        return
    for name, inner in group.model_fields.items():
        yield from _leaves_of((*path, name), inner)


def _group_in(annotation: object) -> type[Section] | None:
    """The group of settings an annotation stands for, also when it may be None."""
    for option in _options_of(annotation):
        if isinstance(option, type) and issubclass(option, Section):
            return option
    return None


def _options_of(annotation: object) -> tuple[object, ...]:
    """A union's members; anything else is its own only member."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _options_of(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        return typing.get_args(annotation)
    return (annotation,)


def _drop_empty_groups(values: dict[str, Any], group: type[Section]) -> None:
    """A group below which everything is commented out says nothing."""
    for name, info in group.model_fields.items():
        inner = _group_in(info.annotation)
        if inner is None or name not in values:
            continue
        if values[name] is None:
            del values[name]
        elif isinstance(values[name], dict):
            values[name] = dict(values[name])
            _drop_empty_groups(values[name], inner)


def _keys_at(model: type[Shared], where: Path_) -> Iterable[str]:
    """What may stand at a place of the model: the candidates for a misspelt key."""
    group: type[Section] = model
    for part in where:
        info = group.model_fields.get(part)
        inner = _group_in(info.annotation) if info is not None else None
        if inner is None:
            return ()
        group = inner
    return group.model_fields


def _from_text(annotation: object, text: str) -> object:
    """What a variable says: lists by comma, maps as JSON, the rest as it stands."""
    origins = {typing.get_origin(o) or o for o in _options_of(annotation)}
    listed = bool(origins & {list, tuple, set, frozenset})
    if dict in origins or (listed and text.lstrip().startswith("[")):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"wants JSON; {error}") from None
    if listed:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _meant(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
