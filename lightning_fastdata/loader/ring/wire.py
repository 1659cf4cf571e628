"""Messages between the processes of a ring, with descriptors, over Unix sockets.

There is no lock and no thread anywhere: a process that is killed while it writes leaves half a
message, which its reader sees as the end of the connection.
"""

import contextlib
import errno
import os
import pickle
import select
import socket
import struct
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

_HEAD = struct.Struct("<QB")  # bytes of the message, descriptors that travel with it
_AT_ONCE = 64 * 1024  # bytes asked of a socket in one call; more would be mapped anew each time
_DESCRIPTORS = 64  # more than ever wait at once in one read: one comes with each new slot

_open: weakref.WeakSet["Channel"] = weakref.WeakSet()


class Channel:
    """One end of a connection; each message is a picklable value and some descriptors.

    Args:
        end: A connected stream socket, owned from now on.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._hangup = select.poll()
        self._hangup.register(end, select.POLLRDHUP)
        self._read = bytearray()
        self._descriptors: deque[int] = deque()
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        _open.add(self)

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._end.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether a posted message waits for room in the socket."""
        return bool(self._unsent)

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a message, waiting for room.

        Raises:
            OSError: If the other end is gone.
        """
        self.post(message, descriptors)
        while self._unsent:
            _wait_for(self._end, select.POLLOUT, None)
            self.flush()

    def post(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send as much as there is room for now; ``flush`` sends the rest."""
        payload = pickle.dumps(message, protocol=5)
        frame = _HEAD.pack(len(payload), len(descriptors)) + payload
        self._unsent.append((memoryview(frame), descriptors))
        self.flush()

    def flush(self) -> None:
        """Send what there is room for, and never wait."""
        while self._unsent:
            frame, descriptors = self._unsent[0]
            try:
                if descriptors:
                    sent = socket.send_fds(self._end, [frame], descriptors, socket.MSG_DONTWAIT)
                else:
                    sent = self._end.send(frame, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if sent == len(frame):
                self._unsent.popleft()
            else:
                self._unsent[0] = (frame[sent:], ())

    def receive(self, timeout_s: float | None = None) -> tuple[Any, list[int]]:
        """Wait for the next message.

        Returns:
            The message and its descriptors, which the caller owns.

        Raises:
            EOFError: If the other end was closed.
            TimeoutError: If nothing came within ``timeout_s``.
        """
        while True:
            found = self._next_read()
            if found is not None:
                return found
            if timeout_s is not None and not _wait_for(self._end, select.POLLIN, timeout_s):
                raise TimeoutError
            self._fill(0)

    def receive_ready(self) -> list[tuple[Any, list[int]]]:
        """Give the messages that have come, without waiting.

        Raises:
            EOFError: If the other end was closed and every message has been given.
        """
        try:
            self._fill(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        messages = []
        while (found := self._next_read()) is not None:
            messages.append(found)
        return messages

    def drain(self, timeout_s: float) -> bool:
        """Throw away what comes, until the other end is closed; say whether that was in time."""
        deadline_s = time.monotonic() + timeout_s
        if self.fileno() < 0:  # the garbage collector came first, who ends a circle in any order
            return True
        with contextlib.suppress(EOFError):
            while _wait_for(self._end, select.POLLIN, max(0, deadline_s - time.monotonic())):
                self._fill(0)
                self._read.clear()
            return False
        return True

    def _fill(self, flags: int) -> None:
        flags |= socket.MSG_CMSG_CLOEXEC
        try:
            data, descriptors, found, _ = socket.recv_fds(self._end, _AT_ONCE, _DESCRIPTORS, flags)
        except ConnectionResetError:  # it died with messages of ours unread
            data, descriptors, found = b"", [], 0
        self._descriptors.extend(descriptors)
        if found & socket.MSG_CTRUNC:  # the kernel has dropped what this process may not open
            raise OSError(errno.EMFILE, "a slot needs one more open file: raise ulimit -n")
        if not data:
            raise EOFError
        self._read += data

    def _next_read(self) -> tuple[Any, list[int]] | None:
        if len(self._read) < _HEAD.size:
            return None
        size, count = _HEAD.unpack_from(self._read)
        end = _HEAD.size + size
        if len(self._read) < end:
            return None
        with memoryview(self._read) as view, view[_HEAD.size : end] as payload:
            message = pickle.loads(payload)
        del self._read[:end]
        return message, [self._descriptors.popleft() for _ in range(count)]

    def is_ending(self) -> bool:
        """Whether the other end will send nothing more, though messages may still wait here."""
        return bool(self._hangup.poll(0))

    def end_sending(self) -> None:
        """Tell the other end that nothing more will come; receiving goes on."""
        with contextlib.suppress(OSError):  # the other end may be gone already
            self._end.shutdown(socket.SHUT_WR)

    def end_receiving(self) -> None:
        """Read the end of the connection next, even if the other end never closes it."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close this end and what came with unread messages. May be called twice."""
        self._end.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())


def _wait_for(end: socket.socket, what: int, timeout_s: float | None) -> bool:
    poll = select.poll()  # select() refuses descriptors from 1,024 on
    poll.register(end, what)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def wait_for_ends(channels: Sequence[Channel], timeout_s: float) -> None:
    """Throw away what comes, until every other end is closed or time is up."""
    deadline_s = time.monotonic() + timeout_s
    for channel in channels:
        if not channel.drain(max(0.0, deadline_s - time.monotonic())):
            break


def pair() -> tuple[Channel, socket.socket]:
    """Make two connected ends: one for this process, one for a child to wrap in a ``Channel``."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(own), other


def _close_inherited() -> None:
    # In the child of any fork, torch's workers and the user's own too: an end that a stranger holds
    # open would hide from the other side that this process has died.
    for channel in list(_open):
        channel.close()


os.register_at_fork(after_in_child=_close_inherited)
