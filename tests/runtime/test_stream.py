"""Streams between hosts, without hosts.

Claims: pieces arrive in the order they were asked for, between machines and within one, where
no port is opened; what is missing, a wrong token, a source that goes away and one that falls
silent are a lost host; pauses shorter than the deadline are not, however long all takes.
"""

import contextlib
import socket
import time

import numpy as np
import pytest

from dsave.errors import HostLostError
from dsave.model.slices import Box
from dsave.runtime.stream import CHUNK_NBYTES, Endpoint, Reader, Server

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

HOST = "/job:worker/replica:0/task:1"
BETWEEN_MACHINES, WITHIN_ONE = "127.0.0.2", "127.0.0.1"
BYTES = np.arange(3 * CHUNK_NBYTES + 5, dtype=np.uint32).astype(np.uint8)


def find(key, box):
    array = {"a": BYTES, "b": BYTES[::-1].copy()}[key]
    return [memoryview(array if box is None else array[box.index])]


def slow(pauses):
    def find(key, box):
        for byte in b"slow":
            time.sleep(pauses)
            yield bytes([byte])

    return find


@contextlib.contextmanager
def serving(address, find=find):
    server = Server(address, find, 5.0)
    try:
        yield server
    finally:
        server.close()


def received(endpoint, pieces, nbytes, timeout_s=5.0):
    buffer = bytearray(nbytes)
    reader = Reader(HOST, endpoint, pieces, timeout_s)
    try:
        reader.receive_into(memoryview(buffer))
    finally:
        reader.close()
    return bytes(buffer)


@pytest.mark.parametrize("address", [BETWEEN_MACHINES, WITHIN_ONE])
def test_pieces_arrive_in_the_order_they_were_asked_for(address):
    pieces = [("b", None), ("a", Box((7,), (3,))), ("a", None)]
    wanted = BYTES[::-1].tobytes() + bytes([7, 8, 9]) + BYTES.tobytes()
    with serving(address) as server:
        assert received(server.endpoint, pieces, len(wanted)) == wanted


def test_within_one_machine_no_port_is_opened():
    with serving(BETWEEN_MACHINES) as server:
        assert server.endpoint.address[0] == BETWEEN_MACHINES
    with serving(WITHIN_ONE) as server, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server.endpoint.address)


@pytest.mark.parametrize("address", [BETWEEN_MACHINES, WITHIN_ONE])
def test_what_is_not_there_is_named(address):
    with (
        serving(address) as server,
        pytest.raises(HostLostError, match=f"^{HOST}, .*no array 'c' in this save$"),
    ):
        received(server.endpoint, [("c", None)], 1)


@pytest.mark.parametrize("address", [BETWEEN_MACHINES, WITHIN_ONE])
def test_a_wrong_token_gets_nothing(address):
    with serving(address) as server:
        endpoint = Endpoint(server.endpoint.address, bytes(32))
        with pytest.raises(HostLostError, match="the connection broke"):
            received(endpoint, [("a", None)], 1)


@pytest.mark.parametrize("address", [BETWEEN_MACHINES, WITHIN_ONE])
def test_a_source_that_is_gone_is_lost(address):
    with serving(address) as server:
        endpoint = server.endpoint
        reader = Reader(HOST, endpoint, [("a", None)], 5.0)
    with pytest.raises(HostLostError, match="the connection broke"):
        reader.receive_into(memoryview(bytearray(BYTES.size)))
    reader.close()
    with pytest.raises(HostLostError, match=f"^{HOST}, while connecting: the connection broke"):
        received(endpoint, [("a", None)], 1)


@pytest.mark.parametrize("address", [BETWEEN_MACHINES, WITHIN_ONE])
def test_a_source_that_falls_silent_is_lost_after_the_deadline(address):
    with serving(address, slow(2.0)) as server:
        began = time.monotonic()
        with pytest.raises(HostLostError, match="before the deadline; stall_timeout_s sets it"):
            received(server.endpoint, [("", None)], 4, timeout_s=0.3)
        assert 0.3 <= time.monotonic() - began < 1.5


@pytest.mark.parametrize("address", [BETWEEN_MACHINES, WITHIN_ONE])
def test_a_source_that_pauses_is_waited_for(address):
    with serving(address, slow(0.2)) as server:
        assert received(server.endpoint, [("", None)], 4, timeout_s=0.5) == b"slow"
