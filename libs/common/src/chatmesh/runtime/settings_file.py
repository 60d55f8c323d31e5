"""One YAML file, read so that every key still knows its line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from chatmesh.runtime.startup import CannotStart

_MERGE_TAG: Final = "tag:yaml.org,2002:merge"
_NULL_TAG: Final = "tag:yaml.org,2002:null"
_TEXT_TAG: Final = "tag:yaml.org,2002:str"


class SettingsError(CannotStart):
    """A settings file or variable that has to be corrected; says which and where."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a settings file says, and where it says it. Empty when there is no file."""

    name: str = ""
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lines: Mapping[tuple[str, ...], int] = field(
        default_factory=dict[tuple[str, ...], int]
    )

    def place(self, path: tuple[str, ...]) -> str:
        """`file, line n` of the key, or of the nearest one around it; may be empty."""
        for length in range(len(path), 0, -1):
            if line := self.lines.get(path[:length]):
                return f"{self.name}, line {line}"
        return ""


def read(path: Path) -> Document:
    """Read and parse the file. Raises SettingsError with the line where it can."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"cannot read the settings file {path}: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the settings file {path} is not UTF-8 text") from error
    return parse(text, name=str(path))


def parse(text: str, *, name: str) -> Document:
    """Parse the text of a settings file. Raises SettingsError with the line."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{name}: {' '.join(str(error).split())}") from error
    try:
        root = loader.get_single_node()
        if root is None or root.tag == _NULL_TAG:
            return Document(name)
        if not isinstance(root, yaml.MappingNode):
            raise SettingsError(f"{name}: the settings file wants `key: value` lines")
        # Before construction, which folds merged keys in and drops repeated ones.
        lines = dict(_lines(root, (), name))
        values: dict[str, Any] = loader.construct_document(root)  # pyright: ignore[reportUnknownMemberType] - stubs without its parameter's type
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        reason = ": ".join(filter(None, (error.context, error.problem)))
        raise SettingsError(f"{name}, line {line}: {reason}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date that is none, in text that looks like one.
        raise SettingsError(f"{name}: {error}") from error
    finally:
        loader.dispose()
    return Document(name, values, lines)


def _lines(
    node: yaml.MappingNode, path: tuple[str, ...], name: str
) -> Iterator[tuple[tuple[str, ...], int]]:
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE_TAG:
            continue
        if key.tag != _TEXT_TAG:
            raise SettingsError(
                f"{name}, line {line}: a key has to be text; put {key.value} in quotes"
            )
        if key.value in seen:
            raise SettingsError(
                f"{name}, line {line}: {key.value} stands here a second time"
            )
        seen.add(key.value)
        here = (*path, key.value)
        yield here, line
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, here, name)
