"""What keeps a process from starting, said in one sentence to whoever started it."""


class CannotStart(Exception):
    """The operator has to change something; the message says what, without a traceback."""
