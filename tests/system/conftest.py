"""What tests of whole meshes share."""

import pytest

from support.sdks import KINDS, Kind, missing


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each published SDK, in each of its encodings; skipped where it cannot be had."""
    reason = missing(request.param)
    if reason is not None:
        pytest.skip(reason)
    return request.param
