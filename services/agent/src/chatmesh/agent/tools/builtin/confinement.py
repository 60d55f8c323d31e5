"""Runs as a script of its own: takes rights away from itself, then runs a snippet.

What is taken, in this order, and what happens where the machine does not allow it:

1. rights of root: the user becomes nobody, if the Python library can be read as nobody;
2. the network: a user and network namespace of its own, with nothing in it;
3. resources: processor time, memory, file size, open files, processes;
4. files: Landlock leaves the Python library to read and the own directory to write;
5. system calls: seccomp refuses sockets, tracing, signals to others, mounts, changes of
   files by name that Landlock does not know (modes, owners, times, lengths), and the like.

2 or 5 has to work, and 1 or both 4 and 5 have to work: otherwise nothing is run. Standard
input holds the snippet, the one argument its limits as JSON. Needs nothing beyond the
standard library.
"""

import ctypes
import json
import os
import platform
import resource
import stat
import struct
import sys
from typing import Any, Final

CANNOT: Final = 97
"""Exit code: this machine cannot confine a snippet, so it was not run."""

_NOBODY: Final = 65534
_NAMESPACES: Final = (
    0x10000000 | 0x40000000 | 0x08000000 | 0x04000000
)  # user net ipc uts
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_FILTER: Final = 2
_LANDLOCK_CREATE: Final = 444
_LANDLOCK_ADD: Final = 445
_LANDLOCK_RESTRICT: Final = 446
_LANDLOCK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_READ: Final = 1 | 4 | 8  # execute, read a file, read a directory
_FIRST_VERSION_RIGHTS: Final = (1 << 13) - 1
_TRUNCATE: Final = 1 << 14
_TRUNCATE_SINCE: Final = 3
_O_PATH: Final = 0o10000000

# fmt: off
# Audit architecture, the number of clone, those of open and openat with the place of their
# flags, then the numbers of what is refused.
_MACHINES: Final = {
    "x86_64": (
        0xC000003E, 56, ((2, 1), (257, 2)),
        # socket to getsockopt, without those that need a socket first
        (
            41, 42, 43, 44, 46, 49, 50, 53, 288, 299, 307,
            # ptrace, kill, tkill, tgkill, rt_sigqueueinfo, pidfd_send_signal, pidfd_open
            101, 62, 200, 234, 129, 424, 434, 438,
            # process_vm_*, mount, umount2, pivot_root, chroot, unshare, setns, bpf
            310, 311, 165, 166, 155, 161, 272, 308, 321,
            # keys, perf_event_open, userfaultfd, io_uring, open_by_handle_at, modules, reboot
            248, 249, 250, 298, 323, 425, 426, 427, 304, 175, 313, 169,
            # fork, vfork
            57, 58,
            # truncate, chmod, fchmod, fchmodat, fchmodat2, chown, fchown, lchown, fchownat
            76, 90, 91, 268, 452, 92, 93, 94, 260,
            # utime, utimes, futimesat, utimensat, mknod, mknodat, file_setattr
            132, 235, 261, 280, 133, 259, 469,
            # set, get, list, remove extended attributes: by path, link, descriptor, directory
            188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199, 463, 464, 465, 466,
        ),
    ),
    "aarch64": (
        0xC00000B7, 220, ((56, 2),),
        (
            198, 199, 200, 201, 202, 203, 206, 211, 242, 243, 269,
            117, 129, 130, 131, 138, 424, 434, 438,
            270, 271, 40, 39, 41, 51, 97, 268, 280,
            217, 218, 219, 241, 282, 425, 426, 427, 265, 105, 273, 142,
            45, 52, 53, 452, 54, 55, 88, 33, 469,
            5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 463, 464, 465, 466,
        ),
    ),
}
# fmt: on
_X32: Final = 0x40000000
_EPERM: Final = 1
_ENOSYS: Final = 38
_ERROR: Final = 0x00050000
_ALLOW: Final = 0x7FFF0000
_CLONE3: Final = 435
_OPENAT2: Final = 437
_CLONE_THREAD: Final = 0x10000


def main() -> None:
    """Confine this process, then run what standard input says."""
    limits: dict[str, Any] = json.loads(sys.argv[1])
    code = sys.stdin.read()
    libc = ctypes.CDLL(None, use_errno=True)
    nobody = _become_nobody()
    alone = libc.unshare(_NAMESPACES) == 0
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    walled = _landlock(libc, limits["folder"])
    _limit(limits)
    filtered = _seccomp(libc)
    if not (alone or filtered):
        _refuse("neither namespaces nor seccomp can take the network away")
    if not (nobody or (walled and filtered)):
        _refuse("neither Landlock with seccomp nor another user can keep files away")
    scope = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(compile(code, "<snippet>", "exec"), scope)  # noqa: S102 - what all of this is for


def _refuse(reason: str) -> None:
    sys.stderr.write(f"this machine cannot confine a snippet: {reason}\n")
    sys.stderr.flush()
    os._exit(CANNOT)


def _become_nobody() -> bool:
    if os.geteuid() != 0 or not _readable_by_all(os.path.dirname(os.__file__)):  # noqa: PTH120 - no imports beyond need
        return False
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    return True


def _readable_by_all(path: str) -> bool:
    wanted = stat.S_IROTH | stat.S_IXOTH
    if os.stat(path).st_mode & wanted != wanted:  # noqa: PTH116 - as above
        return False
    while path != "/":
        path = os.path.dirname(path)  # noqa: PTH120 - as above
        if not os.stat(path).st_mode & stat.S_IXOTH:  # noqa: PTH116 - as above
            return False
    return True


def _limit(limits: dict[str, Any]) -> None:
    for kind, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _landlock(libc: ctypes.CDLL, folder: str) -> bool:
    """Leave the library to read and `folder` to write; False where there is no Landlock."""
    version = libc.syscall(
        _LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION
    )
    if version < 1:
        return False
    rights_known = _FIRST_VERSION_RIGHTS
    if version >= _TRUNCATE_SINCE:
        rights_known |= _TRUNCATE
    handled = struct.pack("Q", rights_known)
    rules = libc.syscall(_LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    library = (sys.base_prefix, sys.base_exec_prefix, "/usr/lib", "/lib", "/lib64")
    allowed = [(path, _READ) for path in dict.fromkeys(library)]
    for path, rights in [*allowed, (folder, rights_known)]:
        try:
            where = os.open(path, _O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        rule = struct.pack("=Qi", rights, where)
        added = libc.syscall(_LANDLOCK_ADD, rules, _PATH_BENEATH, rule, 0)
        os.close(where)
        if added != 0:
            return False
    return libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0


def _seccomp(libc: ctypes.CDLL) -> bool:
    """Refuse system calls no snippet needs; False where they cannot be."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    architecture, clone, opening, refused = machine
    load, equal, any_of, above, mask, give = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, 0x80000000),  # another architecture: kill
        (load, 0, 0, 0),
        (above, 0, 1, _X32),
        (give, 0, 0, _ERROR | _EPERM),
    ]
    # Threads may be made, processes not; clone3 hides its flags, so there is none.
    program += [
        (equal, 0, 4, clone),
        (load, 0, 0, 16),
        (any_of, 0, 1, _CLONE_THREAD),
        (give, 0, 0, _ALLOW),
        (give, 0, 0, _ERROR | _EPERM),
        (equal, 0, 1, _CLONE3),
        (give, 0, 0, _ERROR | _ENOSYS),
    ]
    # A file opened to be read may be emptied by that, which an old Landlock does not see;
    # openat2 hides its flags, so there is none.
    for number, place in opening:
        program += [
            (equal, 0, 5, number),
            (load, 0, 0, 16 + 8 * place),
            (mask, 0, 0, os.O_TRUNC | os.O_ACCMODE),
            (equal, 0, 1, os.O_TRUNC | os.O_RDONLY),
            (give, 0, 0, _ERROR | _EPERM),
            (give, 0, 0, _ALLOW),
        ]
    program += [(equal, 0, 1, _OPENAT2), (give, 0, 0, _ERROR | _ENOSYS)]
    for number in refused:
        program += [(equal, 0, 1, number), (give, 0, 0, _ERROR | _EPERM)]
    program.append((give, 0, 0, _ALLOW))
    packed = b"".join(struct.pack("HBBI", *one) for one in program)
    text = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(text))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, header, 0, 0) == 0)


if __name__ == "__main__":
    main()
