"""What went wrong, for the person at the terminal."""


class Trouble(Exception):
    """One sentence saying what is the matter and what to do; no traceback is shown."""
