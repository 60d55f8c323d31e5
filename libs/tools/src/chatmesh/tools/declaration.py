"""Turns a typed function into a tool: its schemas, its checks, its call."""

import asyncio
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast

import pydantic

from chatmesh.tools.context import ToolContext, ToolFailed
from chatmesh.wire import tools as wire
from chatmesh.wire.tools import ToolDescription

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TIMEOUT_S: Final = 30.0
DEFAULT_APPROVERS: Final = ("owner", "moderator", wire.REQUESTER)
_ERRORS_TOLD: Final = 5


class BadArguments(ToolFailed):
    """The arguments are not what the tool takes; nothing was run."""


class NotATool(TypeError):
    """This function cannot be a tool; says why."""


class Served(Protocol):
    """Anything a worker can serve as a tool."""

    @property
    def description(self) -> ToolDescription: ...

    async def run(
        self, arguments: Mapping[str, Any], context: ToolContext, executor: Executor
    ) -> object:
        """What the tool gives back, as JSON values.

        Raises ToolFailed, BadArguments; any other exception counts as a failure too.
        """
        ...


class Tool(Generic[P, R]):
    """A function that is a tool too. Calling it calls the function."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str,
        read_only: bool,
        needs_approval: bool,
        approvers: Sequence[str],
        timeout_s: float,
        version: str,
    ) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        self.__name__ = name
        hints = typing.get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
        self._context_name = _context_parameter(signature, hints)
        self._arguments = _arguments_model(
            name, signature, hints, skip=self._context_name
        )
        returns: Any = hints.get("return", Any)
        self._returns: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(
            type(None) if returns is None else returns
        )
        self.description = ToolDescription(
            name=name,
            description=inspect.getdoc(function) or "",
            parameters=_schema(self._arguments.model_json_schema()),
            result=_schema(self._returns.json_schema(mode="serialization")) or None,
            read_only=read_only,
            needs_approval=needs_approval,
            approvers=list(approvers),
            timeout_ms=int(timeout_s * 1000),
            version=version,
        )
        if reason := wire.refusal(self.description):
            raise NotATool(f"{name}: {reason}")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    async def run(
        self, arguments: Mapping[str, Any], context: ToolContext, executor: Executor
    ) -> object:
        """`Served.run`: functions that are not async run in a thread of `executor`."""
        given = self._checked(arguments)
        if self._context_name:
            given[self._context_name] = context
        function = cast("Callable[..., Any]", self._function)
        if inspect.iscoroutinefunction(function):
            value: object = await function(**given)
        else:
            loop = asyncio.get_running_loop()
            try:
                value = await loop.run_in_executor(executor, lambda: function(**given))
            except asyncio.CancelledError:
                # A thread cannot be ended from outside; this asks it to.
                context.stop()
                raise
        try:
            return self._returns.dump_python(
                self._returns.validate_python(value), mode="json"
            )
        except (pydantic.ValidationError, ValueError) as error:
            raise ToolFailed(
                "the tool gave back something other than it promises"
            ) from error

    def _checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            model = self._arguments.model_validate(dict(arguments))
        except pydantic.ValidationError as error:
            mistakes = "; ".join(
                f"{'.'.join(map(str, mistake['loc'])) or 'arguments'}: {mistake['msg']}"
                for mistake in error.errors()[:_ERRORS_TOLD]
            )
            raise BadArguments(f"arguments refused: {mistakes}") from error
        return {name: getattr(model, name) for name in type(model).model_fields}


@typing.overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@typing.overload
def tool(
    *,
    name: str = "",
    read_only: bool = False,
    side_effect: bool | None = None,
    needs_approval: bool = False,
    approvers: Sequence[str] = DEFAULT_APPROVERS,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    version: str = "1",
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str = "",
    read_only: bool = False,
    side_effect: bool | None = None,
    needs_approval: bool = False,
    approvers: Sequence[str] = DEFAULT_APPROVERS,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    version: str = "1",
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Make a typed function a tool. Its docstring is what models read.

    Args:
        function: the function, when used without parentheses.
        name: what models call it; the function's own name by default.
        read_only: it changes nothing, so that it may run again when its worker died.
        side_effect: the opposite of `read_only`, for those who prefer to say it so.
        needs_approval: a person has to allow each call.
        approvers: who may: roles of the room, and `requester` for the person who asked.
        timeout_s: how long one call may take, in seconds.
        version: told to agents, and otherwise yours.

    Raises NotATool when the function cannot be one.
    """
    if side_effect is not None:
        if read_only and side_effect:
            raise NotATool("a tool with side effects is not read-only")
        read_only = not side_effect

    def made(function: Callable[P, R]) -> Tool[P, R]:
        return Tool(
            function,
            name=name or function.__name__,
            read_only=read_only,
            needs_approval=needs_approval,
            approvers=approvers,
            timeout_s=timeout_s,
            version=version,
        )

    return made if function is None else made(function)


def tools_in(namespace: Mapping[str, object]) -> list[Tool[..., Any]]:
    """The tools among the values of a module, in the order they were made."""
    found: dict[str, Tool[..., Any]] = {}
    for value in namespace.values():
        if isinstance(value, Tool):
            one = cast("Tool[..., Any]", value)
            found[one.description.name] = one
    return list(found.values())


def _context_parameter(signature: inspect.Signature, hints: dict[str, Any]) -> str:
    for name in signature.parameters:
        options = (
            typing.get_args(hints.get(name))
            if typing.get_origin(hints.get(name)) in {typing.Union, types.UnionType}
            else (hints.get(name),)
        )
        if ToolContext in options:
            return name
    return ""


def _arguments_model(
    name: str, signature: inspect.Signature, hints: dict[str, Any], *, skip: str
) -> type[pydantic.BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.name == skip:
            continue
        if parameter.kind not in {
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        }:
            raise NotATool(f"{name}: every parameter needs a name, so no * and no /")
        if parameter.name not in hints:
            raise NotATool(f"{name}: parameter {parameter.name} has no type")
        default = (
            ... if parameter.default is inspect.Parameter.empty else parameter.default
        )
        fields[parameter.name] = (hints[parameter.name], default)
    return pydantic.create_model(
        name, __config__=pydantic.ConfigDict(extra="forbid"), **fields
    )


def _schema(made: dict[str, Any]) -> dict[str, Any]:
    """A schema without the titles that pydantic makes of names."""
    return cast("dict[str, Any]", _untitled(made, names=False))


def _untitled(value: object, *, names: bool) -> object:
    if isinstance(value, dict):
        return {
            # Below `properties` a key is somebody's name, which may be `title`.
            key: _untitled(inner, names=key in {"properties", "$defs"} and not names)
            for key, inner in cast("dict[str, object]", value).items()
            if names or key != "title"
        }
    if isinstance(value, list):
        return [_untitled(inner, names=False) for inner in cast("list[object]", value)]
    return value
