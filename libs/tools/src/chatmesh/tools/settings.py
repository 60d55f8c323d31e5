"""Where a worker finds the broker: the settings that all processes of a mesh share."""

import os

from chatmesh.runtime import settings
from chatmesh.runtime.settings import Shared


def load() -> Shared:
    """The shared settings of this process. Raises CannotStart, one line per mistake."""
    environ = os.environ  # noqa: TID251 - the one place that reads it
    return settings.load(Shared, section="", path=None, environ=environ)
