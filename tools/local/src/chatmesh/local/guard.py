"""Become another program that ends when the one who started it does.

Run as a file, with nothing but the standard library:

    guard.py PARENT_PID SIGNAL USER COMMAND…

Even a `kill -9` of the supervisor leaves nothing behind: the kernel sends SIGNAL to
COMMAND when PARENT_PID is gone (Linux only). USER is "-", or who to be instead of root:
PostgreSQL refuses to run as root.
"""

import ctypes
import os
import pwd
import resource
import shutil
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_START = 126
DESCRIPTORS = 65_536


def become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def take_descriptors() -> None:
    """As many as we may: a gateway needs one per client, RabbitMQ some per queue.

    Shells start with 1024, and a broker that runs out of them stops answering.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def end_with(parent: int, signal_number: int) -> None:
    """Set after `become`: a change of user clears it."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal_number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(128 + signal_number)  # the parent died before we could ask


def main(arguments: list[str]) -> None:
    parent, signal_number, user, *command = arguments
    # Python ignores these two; an ignored signal stays ignored in the next program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if hasattr(signal, "SIGXFSZ"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    take_descriptors()
    program = shutil.which(command[0]) or command[0]
    if user != "-":
        # From here on our own library may be out of reach: no more imports.
        become(user)
    end_with(int(parent), int(signal_number))
    os.execv(program, command)  # noqa: S606


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        print(f"cannot start {sys.argv[4]}: {error.strerror}", file=sys.stderr)
        sys.exit(CANNOT_START)
