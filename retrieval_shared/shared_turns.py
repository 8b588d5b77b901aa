"""Turns that the processes of one machine take from one line: a semaphore of the kernel (System V, `semop(2)`).

Workers of a service share the cores but not the requests: each has the connections that it took. With a line for
each, a text waits behind others in one worker while the core of the next one idles. With one line for all, whoever came
first goes first, wherever its connection is.

The kernel lets in waiters in the order in which they came, and gives back what a process held that died (`SEM_UNDO`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from retrieval_shared.turns import Turns

log = structlog.get_logger()

LINE_VARIABLE = "WARDLINE_TURNS"
_CREATE, _OWNER, _UNDO = 0o1000, 0o600, 0x1000
_GET_VALUE, _GET_WAITING, _SET_VALUE, _REMOVE = 12, 14, 16, 0
_LIBRARY = ctypes.CDLL(None, use_errno=True)  # its calls let other threads run


class _Step(ctypes.Structure):
    """`struct sembuf`."""

    _fields_ = (("number", ctypes.c_ushort), ("by", ctypes.c_short), ("flags", ctypes.c_short))


class SharedTurns:
    """So many at once over all processes that name the same line; stands in for `Turns`."""

    def __init__(self, line: int) -> None:
        """Join the line that `make_line` made; raise `OSError` where there is none of that number."""
        self._line = line
        self._is_gone = False
        _call("semctl", line, 0, _GET_VALUE)

    @property
    def waiting(self) -> int:
        """Return how many threads are in line, those of other processes among them."""
        return _call("semctl", self._line, 0, _GET_WAITING)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a turn, and give it to the next in line at the end.

        Where the line is gone, nobody waits any more: turns are for speed, and a text is scored without, too.
        """
        taken = not self._is_gone and self._step(-1)
        try:
            yield
        finally:
            if taken:
                self._step(1)

    def _step(self, by: int) -> bool:
        step = _Step(0, by, _UNDO)
        while True:
            try:
                _call("semop", self._line, ctypes.byref(step), 1)
            except InterruptedError:
                continue
            except OSError as error:
                self._is_gone = True
                log.warning("the workers' line is gone; texts are scored as they come", reason=str(error))
                return False
            return True


def turns_named(threads: int) -> Turns | SharedTurns:
    """Return the line that `WARDLINE_TURNS` numbers, which `serve` sets; without one, turns of this process alone."""
    named = os.environ.get(LINE_VARIABLE, "")
    if named.isdecimal():
        try:
            return SharedTurns(int(named))
        except OSError as error:
            log.warning("the workers' line is gone; this one has its own", reason=str(error))
    return Turns(threads)


def make_line(name: str, at_once: int) -> int | None:
    """Return the number of a line that lets in `at_once` at the same time; None where the system has no such thing.

    Args:
        name: of the service on this machine. A line outlives its processes until it is removed (`ipcs -s` lists it);
            one of the same name is used again, as new.
        at_once: at least 1.
    """
    key = zlib.crc32(f"wardline {os.getuid()} {name}".encode()) & 0x7FFFFFFF or 1
    try:
        line = _call("semget", key, 1, _CREATE | _OWNER)
        _call("semctl", line, 0, _SET_VALUE, at_once)
    except (AttributeError, OSError):  # no such call in the library, or not allowed in this container
        return None
    return line


def remove_line(line: int) -> None:
    """Remove a line; who waits there goes on. Raises `OSError` where there is none of that number."""
    _call("semctl", line, 0, _REMOVE)


def remove_named_line() -> None:
    """Remove the line that `WARDLINE_TURNS` numbers, unless another worker has."""
    named = os.environ.get(LINE_VARIABLE, "")
    if named.isdecimal():
        with suppress(OSError):
            remove_line(int(named))


def _call(name: str, *arguments: object) -> int:
    """Return what a call of the C library returns.

    Raises:
        OSError: it failed.
    """
    result = int(getattr(_LIBRARY, name)(*arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {errno.errorcode.get(code, code)}")
    return result
