"""What holds in which channel: the presence settings, and what its namespace says."""

from collections.abc import Mapping

from chatmesh.presence.roster import Rules
from chatmesh.wire.channels import namespace_of
from chatmesh.wire.namespaces import NamespaceOptions

MS_PER_S = 1000


class Rulebook:
    """Looks rules up by channel."""

    def __init__(
        self,
        namespaces: Mapping[str, NamespaceOptions],
        *,
        grace_s: float,
        large_above: int,
    ) -> None:
        self._elsewhere = Rules(
            announce=False, grace_ms=int(grace_s * MS_PER_S), large_above=large_above
        )
        self._rules = {
            name: self._of_namespace(options) for name, options in namespaces.items()
        }

    def of(self, channel: str) -> Rules:
        """The rules of a channel; of a namespace that is unknown here, nothing is told."""
        return self._rules.get(namespace_of(channel), self._elsewhere)

    def _of_namespace(self, options: NamespaceOptions) -> Rules:
        usual = self._elsewhere
        grace_s, large_above = options.grace_s, options.large_above
        return Rules(
            announce=options.join_leave,
            grace_ms=usual.grace_ms if grace_s is None else int(grace_s * MS_PER_S),
            large_above=usual.large_above if large_above is None else large_above,
        )
