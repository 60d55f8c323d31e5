"""Keeps out what somebody said who has been replaced without knowing it yet.

A process whose work was taken over may be alive and go on publishing. Publications of
such work name a fence and an epoch, and an epoch lower than one seen before is late.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from chatmesh.wire import limits
from chatmesh.wire.messages import LiveEvent, LivePublication

_Key = tuple[str, str]


class Fences:
    """The highest epoch seen of each fence; the one unheard for longest is forgotten."""

    def __init__(self, *, kept_max: int = limits.FENCES_PER_GATEWAY_MAX) -> None:
        self._epochs: OrderedDict[_Key, int] = OrderedDict()
        self._kept_max: Final = kept_max

    def __len__(self) -> int:
        return len(self._epochs)

    def admitted(self, event: LiveEvent) -> LiveEvent:
        """The event without what comes too late; the same object when nothing does."""
        if not any(one.fence for one in event.publications):
            return event
        kept = [one for one in event.publications if self._admits(event.channel, one)]
        if len(kept) == len(event.publications):
            return event
        return msgspec.structs.replace(event, publications=kept)

    def _admits(self, channel: str, publication: LivePublication) -> bool:
        if not publication.fence:
            return True
        key = channel, publication.fence
        seen = self._epochs.get(key)
        if seen is not None and publication.fence_epoch < seen:
            return False
        self._epochs[key] = publication.fence_epoch
        self._epochs.move_to_end(key)
        if len(self._epochs) > self._kept_max:
            self._epochs.popitem(last=False)
        return True
