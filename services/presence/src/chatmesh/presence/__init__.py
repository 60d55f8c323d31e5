"""The presence service: it knows who is where, by lease, and tells who comes and goes."""
