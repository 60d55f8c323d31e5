"""Which addresses a page may be fetched from: those of the public internet, and no others."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

URL_CHARS_MAX: Final = 2000
_SCHEMES: Final = frozenset({"http", "https"})
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64: Final = ipaddress.ip_network("64:ff9b:1::/48")
"""Leads to whatever a network's own translator takes it for."""
_COMPATIBLE: Final = ipaddress.ip_network("::/96")
"""IPv4 in the last four bytes, as it was meant once; some systems still go there."""


def url_refusal(url: str) -> str | None:
    """Why a URL is not fetched, before any name is looked up; None: it may be."""
    if len(url) > URL_CHARS_MAX:
        return f"URL over {URL_CHARS_MAX} characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"no URL: {error}"
    if parts.scheme not in _SCHEMES:
        return "only http and https are fetched"
    if not parts.hostname or port == 0:
        return "the URL names no host"
    if parts.username is not None or parts.password is not None:
        return "a URL with a password in it is not fetched"
    return None


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also when wrapped in IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local or ip in _LOCAL_NAT64 or ip in _COMPATIBLE:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)
