"""Move bytes from the host that holds them to the host that writes them, in bounded chunks.

A plain TCP connection from the writer to each source: the writer sends its token and the list
of pieces it will want, in order; the source sends the bytes, straight from its arrays. The
socket's own window is the credit: a writer that is slow to write makes the source wait. Ray's
object path moves the same bytes at a third of the rate and through both hosts' stores. Between
hosts of one machine it is a Unix socket, half as fast again.

    request   32 bytes token, 4 bytes big-endian length of what follows,
              JSON [[key, null], [key, [starts, lengths]], ...]
    response  1 byte status: 0, then all bytes; or 1, then 4 bytes length and a text
"""

import contextlib
import json
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dsave.errors import HostLostError
from dsave.format.coding import Buffer
from dsave.model.slices import Box

CHUNK_NBYTES = 1 << 20  # larger ones leave a core's cache between crc and write
_LOOPBACK = "127.0.0.1"
_TOKEN_NBYTES = 32
_LOOKS = 10
"""How often a receiver looks before its deadline whether bytes still come."""

_PAUSE_S = 0.05
_MAX_REQUEST_NBYTES = 1 << 28
_OK, _REFUSED = b"\0", b"\1"

Piece = tuple[str, Box | None]
"""(key, box) of an array, whose elements travel in row-major order; None: all there is."""

Find = Callable[[str, Box | None], Iterable[Buffer]]
"""The bytes of a piece, in chunks that are valid until the next. Raises KeyError at once, and
OSError if it cannot be read."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a host gives out the bytes of one save, and the token that opens it.

    `address` is an IP address and a port, or the name of a Unix socket of this machine.
    """

    address: tuple[str, int] | bytes
    token: bytes


class Server:
    """Gives out pieces of one snapshot until it is closed, a thread for each connection."""

    def __init__(self, address: str, find: Find, timeout_s: float) -> None:
        self._find = find
        self._timeout_s = timeout_s
        self._token = secrets.token_bytes(_TOKEN_NBYTES)
        self._socket = _listen(address)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="dsave-serve", daemon=True).start()

    @property
    def endpoint(self) -> Endpoint:
        """What a writer needs to connect."""
        return Endpoint(self._socket.getsockname(), self._token)

    def close(self) -> None:
        """Take no more connections, and break off those that there are."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if self._socket.fileno() < 0:
                    return  # closed
                time.sleep(_PAUSE_S)  # it is being closed, or there is no descriptor left
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="dsave-send", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, self._kept(connection):
            connection.settimeout(self._timeout_s)
            token = _receive(connection, _TOKEN_NBYTES, self._timeout_s)
            if not secrets.compare_digest(token, self._token):
                return
            (length,) = struct.unpack(">I", _receive(connection, 4, self._timeout_s))
            if length > _MAX_REQUEST_NBYTES:
                return
            wanted = json.loads(_receive(connection, length, self._timeout_s))
            try:
                pieces = [
                    self._find(key, None if box is None else Box(*map(tuple, box)))
                    for key, box in wanted
                ]
            except (KeyError, OSError) as error:
                missing = f"no array {error.args[0]!r} in this save"
                text = (missing if isinstance(error, KeyError) else str(error)).encode()
                connection.sendall(_REFUSED + struct.pack(">I", len(text)) + text)
                return
            if connection.family == socket.AF_UNIX:  # TCP finds its own size
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK_NBYTES)
            # The writer may be busy with other sources for longer than any deadline.
            connection.settimeout(None)
            connection.sendall(_OK)
            for chunks in pieces:
                for chunk in chunks:
                    connection.sendall(chunk)

    @contextlib.contextmanager
    def _kept(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            if self._socket.fileno() < 0:
                raise ConnectionAbortedError("closed meanwhile")
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)


class Reader:
    """The writer's end: receives the pieces in the order they were asked for.

    Raises:
        HostLostError: from any method, when the source cannot be reached, goes away, or
            sends nothing for `timeout_s`.
    """

    def __init__(
        self, host: str, endpoint: Endpoint, pieces: Sequence[Piece], timeout_s: float
    ) -> None:
        self._host = host
        self._timeout_s = timeout_s
        unix = isinstance(endpoint.address, bytes)
        self._socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        with self._named("connecting"):
            try:
                _set_deadline(self._socket, socket.SO_SNDTIMEO, timeout_s)
                _set_deadline(self._socket, socket.SO_RCVTIMEO, timeout_s / _LOOKS)
                self._socket.connect(endpoint.address)
                self._ask(endpoint.token, pieces)
            except BaseException:
                self._socket.close()
                raise

    def receive_into(
        self, buffer: memoryview, told: Callable[[int], object] = lambda _: None
    ) -> None:
        """Fill the buffer with the next bytes; `told` hears of them as they come."""
        with self._named("sending its variables"):
            _receive_into(self._socket, buffer, self._timeout_s, told)

    def close(self) -> None:
        """Hang up; the source stops sending."""
        self._socket.close()

    def break_off(self) -> None:
        """Have whoever waits for bytes in another thread wait no longer."""
        with contextlib.suppress(OSError):  # it is closed already
            self._socket.shutdown(socket.SHUT_RDWR)

    def _ask(self, token: bytes, pieces: Sequence[Piece]) -> None:
        wanted = [(key, box and (box.starts, box.lengths)) for key, box in pieces]
        request = json.dumps(wanted).encode()
        self._socket.sendall(token + struct.pack(">I", len(request)) + request)
        if self._receive(1) != _OK:
            (length,) = struct.unpack(">I", self._receive(4))
            text = self._receive(length).decode()
            raise HostLostError(self._host, "sending its variables", text)

    def _receive(self, nbytes: int) -> bytes:
        return _receive(self._socket, nbytes, self._timeout_s)

    @contextlib.contextmanager
    def _named(self, phase: str) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, BlockingIOError):  # of a receive; of the others
            raise HostLostError(
                self._host, phase, "no bytes before the deadline; stall_timeout_s sets it"
            ) from None
        except OSError as error:
            raise HostLostError(self._host, phase, f"the connection broke: {error}") from None


def _listen(address: str) -> socket.socket:
    """A socket that hosts connect to which can reach this address."""
    if address != _LOOPBACK:
        listener = socket.create_server((address, 0))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        return listener
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # the kernel finds a name, which is no file's
    listener.listen()
    return listener


def _set_deadline(connection: socket.socket, option: int, timeout_s: float) -> None:
    """Have calls raise BlockingIOError after this time.

    By the kernel: where Python sees to a deadline, MSG_WAITALL does not wait for all.
    """
    seconds, rest = divmod(timeout_s, 1)
    deadline = struct.pack("@ll", int(seconds), max(1, int(rest * 1e6)))  # 0 would be none
    connection.setsockopt(socket.SOL_SOCKET, option, deadline)


def _receive(connection: socket.socket, nbytes: int, timeout_s: float) -> bytes:
    buffer = bytearray(nbytes)
    _receive_into(connection, memoryview(buffer), timeout_s)
    return bytes(buffer)


def _receive_into(
    connection: socket.socket,
    buffer: memoryview,
    timeout_s: float,
    told: Callable[[int], object] = lambda _: None,
) -> None:
    """Fill the buffer; silence is what has a deadline, however slowly bytes come.

    The kernel's own deadline is for the whole of a call, so it is a part of this one.
    """
    moved_at = time.monotonic()
    while len(buffer):
        try:
            received = connection.recv_into(buffer, len(buffer), socket.MSG_WAITALL)
        except BlockingIOError:
            if time.monotonic() - moved_at >= timeout_s:
                raise TimeoutError from None
            continue
        if received == 0:
            raise ConnectionResetError("closed by the other side")
        buffer = buffer[received:]
        told(received)
        moved_at = time.monotonic()
