"""One process at a time trains into a run's folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fctfg.atomic import make_folder, remove_leftovers, write_error
from fctfg.errors import FctfgError
from fctfg.run_state import LOCK


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made where it is missing, cleared of what a killed process left, and locked against other runs.

    The lock goes with the process, however it ends. `.lock` says who holds it.

    Raises:
        FctfgError: another process holds it, or the folder cannot be written.
    """
    make_folder(folder)
    lock = folder / LOCK
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(lock.open("a+"))
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = f" ({who})" if (who := stream.read().strip()) else ""
            raise FctfgError(
                f"another process is training in {folder}{holder}; wait until it is done, or choose another --run name"
            ) from error
        except OSError as error:
            raise write_error(error, lock) or error from error
        remove_leftovers(folder)
        try:
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            stream.flush()
        except OSError as error:
            raise write_error(error, lock) or error from error
        yield
