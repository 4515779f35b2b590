"""Runs between the start of the embedded server's process and the server itself; imports the standard library only.

``python embedded_child.py PARENT_PID BINARY ARGUMENT...`` asks the kernel to end this process when its parent ends, however
that happens, and becomes the server. The request survives the exec. Linux only; elsewhere the server may outlive a killed
parent, and the next start on its directory attaches to it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask for SIGTERM (on which the server saves) at the parent's end; exit at once if it has ended already."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        sys.exit("the parent has ended")


if __name__ == "__main__":
    os.umask(0o077)
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the binary that embedded.py found
