"""Whether an address is this machine itself, where conveniences are harmless."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reached without leaving this machine."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
