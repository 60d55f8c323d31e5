"""Holds the sockets: who may connect, which of them hears what, and in which order.

Pure rules on top (`session`, `policy`, `stream`, `hub`, `outbox`, `wheel`), the loop
that runs them in the middle (`connection`, `feed`, `commits`), everything that touches a
network below in `adapters/`; `bootstrap` joins them.
"""
