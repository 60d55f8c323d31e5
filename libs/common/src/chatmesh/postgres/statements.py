"""The SQL of a package: a file per statement, and one for what several end with."""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from types import MappingProxyType
from typing import Final

_SUFFIX: Final = ".sql"
_NOTHING: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})


def statements(
    package: str, goes_on: Mapping[str, Sequence[str]] = _NOTHING
) -> Callable[[str], str]:
    """Read every `.sql` file of a package; gives a statement's text by its name.

    `goes_on` names, by statement, the files that its text goes on with. Call it on
    import, before there is an event loop that reading could hold up.
    """
    texts = {
        file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
        for file in files(package).iterdir()
        if file.name.endswith(_SUFFIX)
    }
    whole = {
        name: "\n".join(texts[part] for part in (name, *parts))
        for name, parts in goes_on.items()
    }
    return {**texts, **whole}.__getitem__
