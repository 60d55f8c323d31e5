"""The brokers that a setting names: one, or several of one cluster."""

import secrets


def split_urls(urls: str) -> list[str]:
    """Broker URLs as a setting holds them: separated by commas or white space."""
    return urls.replace(",", " ").split()


def one_of(urls: str) -> str:
    """One of them, by chance: whoever loses it comes to another before long.

    None in particular, so that a cluster's nodes share the connections.
    """
    return secrets.choice(split_urls(urls) or [urls])
