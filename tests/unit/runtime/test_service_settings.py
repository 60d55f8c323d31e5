"""What services behind the broker have to have set alike."""

import pydantic
import pytest

from chatmesh.runtime.service_settings import PartitionedSettings


def test_a_lease_outlives_two_missed_renewals() -> None:
    """Else a moment of slowness would move every partition."""
    PartitionedSettings(lease_s=3.0, tick_s=1.0)

    with pytest.raises(pydantic.ValidationError, match="two missed renewals"):
        PartitionedSettings(lease_s=2.9, tick_s=1.0)


def test_keys_are_shown_to_nobody_by_accident() -> None:
    """They open the service API; a log of the settings must not."""
    settings = PartitionedSettings(api_keys=(pydantic.SecretStr("sesame"),))

    assert settings.opening_keys == ["sesame"]
    assert "sesame" not in repr(settings)
