"""The outermost edge: how errors become lines on stderr and exit codes.

0  done
1  refused or failed
2  bad usage or inventory
3  no quorum, or nothing reachable
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

from raftctl.errors import RaftctlError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def run_and_exit(command: Callable[[], object]) -> None:
    """Run it; ends the process when it fails. Errors are lines on stderr, not tracebacks (but with -v)."""
    verbose = not {"-v", "--verbose"}.isdisjoint(sys.argv[1:])
    try:
        command()
    except RaftctlError as error:
        if verbose:
            traceback.print_exc()
        _fail(error)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  outermost edge: a bug must not show a traceback to an operator
        if verbose:
            traceback.print_exc()
        _fail(_unexpected(error))


def _unexpected(error: Exception) -> RaftctlError:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        what = f"cannot write {error.filename or 'the output'}: {error.strerror}"
        return RaftctlError(what, hint="make room there and run it again")
    if isinstance(error, PermissionError) and error.filename:
        what = f"cannot use {error.filename}: {error.strerror}"
        return RaftctlError(what, hint="run this as a user who may, or mend the permissions")
    return RaftctlError(f"internal error: {error!r}", hint="please report it with the output of the same with -v")


def _fail(error: RaftctlError) -> None:
    from raftctl.cli import render

    render.fail(error)
    sys.exit(error.exit_code)
