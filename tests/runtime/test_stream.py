"""Bytes from the host that holds them to the one that writes them: over TCP, or in one machine.

- pieces arrive in the order in which they were asked for, of any size, none included
- only who knows the token gets an answer, and an array that is not there is named
- a source that goes away, or sends nothing until the deadline, is a lost host, named
- a source that pauses for less than the deadline is waited for, however often it does
- a writer that is slow to read is waited for, and nothing is sent ahead of it without bound
- a server that is closed takes nobody in and lets nobody wait
- hosts of one machine open no port
"""

import contextlib
import secrets
import socket
import struct
import threading
import time

import numpy as np
import pytest

from dsave.errors import HostLostError
from dsave.model.slices import Box
from dsave.runtime.shard_writing import Snapshot
from dsave.runtime.stream import Endpoint, Reader, Server, _listen

HOST = "/job:worker/replica:0/task:3"
ONE_MACHINE, ANOTHER = "127.0.0.1", "127.0.0.2"
rng = np.random.default_rng(0)
ARRAYS = {
    "small": np.arange(10, dtype=np.float32),
    "large": rng.integers(0, 255, 11 << 20, np.uint8),
    "grid": np.arange(1200, dtype=np.int16).reshape(30, 40),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.fixture(params=[ONE_MACHINE, ANOTHER])
def address(request):
    """Where a source listens: as hosts of one machine, and as hosts of several."""
    return request.param


@pytest.fixture
def serve(address):
    """Starts servers, and closes them."""
    with contextlib.ExitStack() as stack:

        def start(arrays=ARRAYS, timeout_s=5.0, find=None):
            server = Server(address, find or Snapshot(arrays).chunks, timeout_s)
            stack.callback(server.close)
            return server

        yield start


def connected(endpoint):
    """A socket of somebody who is no Reader."""
    unix = isinstance(endpoint.address, bytes)
    connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    connection.settimeout(5)
    connection.connect(endpoint.address)
    return connection


def received(endpoint, pieces, sizes, timeout_s=5.0):
    reader = Reader(HOST, endpoint, pieces, timeout_s)
    try:
        buffers = [bytearray(size) for size in sizes]
        for buffer in buffers:
            reader.receive_into(memoryview(buffer))
        return b"".join(buffers)
    finally:
        reader.close()


def test_pieces_arrive_in_the_order_in_which_they_were_asked_for(serve):
    order = ["scalar", "large", "empty", "small", "scalar", "grid"]
    expected = b"".join(ARRAYS[key].tobytes() for key in order)
    got = received(serve().endpoint, [(key, None) for key in order], [len(expected)])
    assert got == expected


def test_pieces_may_be_read_in_bites_of_any_size(serve):
    expected = ARRAYS["small"].tobytes() + ARRAYS["grid"].tobytes()
    sizes = [1, 0, 38, 2, 1000, 1399]
    pieces = [("small", None), ("grid", None)]
    assert received(serve().endpoint, pieces, sizes) == expected


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 0), (30, 40)),
        Box((3, 0), (5, 40)),
        Box((3, 7), (5, 2)),
        Box((0, 39), (30, 1)),
        Box((29, 39), (1, 1)),
        Box((3, 7), (0, 2)),
    ],
)
def test_a_box_of_an_array_arrives_row_by_row(serve, box):
    expected = ARRAYS["grid"][box.index].tobytes()
    assert received(serve().endpoint, [("grid", box)], [len(expected)]) == expected


def test_a_scalar_has_a_box_too(serve):
    assert (
        received(serve().endpoint, [("scalar", Box((), ()))], [8]) == ARRAYS["scalar"].tobytes()
    )


def test_ten_thousand_pieces_are_one_request(serve):
    pieces = [("grid", Box((n % 30, 0), (1, 40))) for n in range(10_000)]
    expected = b"".join(ARRAYS["grid"][n % 30].tobytes() for n in range(10_000))
    assert received(serve().endpoint, pieces, [len(expected)]) == expected


def test_nothing_can_be_asked_for(serve):
    assert received(serve().endpoint, [], []) == b""


def test_several_writers_are_served_at_once(serve):
    endpoint = serve().endpoint
    got = {}

    def read(number):
        got[number] = received(endpoint, [("large", None)], [11 << 20])

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[number] == ARRAYS["large"].tobytes() for number in range(4)] == [True] * 4


def test_who_does_not_know_the_token_gets_nothing(serve):
    endpoint = serve().endpoint
    wrong = Endpoint(endpoint.address, secrets.token_bytes(32))
    with pytest.raises(HostLostError) as caught:
        received(wrong, [("small", None)], [40])
    assert caught.value.host == HOST
    with connected(endpoint) as connection:
        connection.sendall(wrong.token + struct.pack(">I", 2) + b"[]")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""


def test_a_request_that_would_fill_the_memory_gets_nothing(serve):
    endpoint = serve().endpoint
    with connected(endpoint) as connection:
        connection.sendall(endpoint.token + struct.pack(">I", 1 << 30))
        assert connection.recv(100) == b""


def test_who_says_nothing_is_hung_up_on(serve):
    endpoint = serve(timeout_s=0.2).endpoint
    with connected(endpoint) as connection:
        assert connection.recv(100) == b""


def test_an_array_that_is_not_there_is_named_before_anything_is_sent(serve):
    with pytest.raises(HostLostError) as caught:
        received(serve().endpoint, [("small", None), ("gone", None)], [])
    assert str(caught.value) == (
        f"{HOST}, while sending its variables: no array 'gone' in this save"
    )


def test_a_source_that_cannot_be_reached_is_lost(address):
    with _listen(address) as unused:
        where = unused.getsockname()
    with pytest.raises(HostLostError, match="while connecting: the connection broke") as caught:
        received(Endpoint(where, b"t" * 32), [], [])
    assert caught.value.host == HOST


def test_a_source_that_goes_away_in_the_middle_is_lost(serve):
    gone = threading.Event()

    def find(_key, _box):
        yield bytes(1 << 20)
        gone.wait()
        raise ConnectionAbortedError("the host is gone")

    reader = Reader(HOST, serve(find=find).endpoint, [("large", None)], 5.0)
    reader.receive_into(memoryview(bytearray(1 << 20)))
    gone.set()
    with pytest.raises(
        HostLostError, match="while sending its variables: the connection broke"
    ):
        reader.receive_into(memoryview(bytearray(1)))
    reader.close()


def test_a_source_that_has_less_than_was_asked_for_is_lost(serve):
    with pytest.raises(HostLostError):
        received(serve().endpoint, [("grid", Box((29, 0), (2, 40)))], [160])


@pytest.mark.parametrize("listens", [True, False])
def test_a_source_that_sends_nothing_is_lost_at_the_deadline(serve, address, listens):
    never = threading.Event()

    def find(_key, _box):
        never.wait()
        return iter(())

    started = time.monotonic()
    if listens:
        endpoint = serve(find=find).endpoint
    else:
        stack = _listen(address)
        endpoint = Endpoint(stack.getsockname(), b"t" * 32)
    with pytest.raises(HostLostError, match="no bytes before the deadline; stall_timeout_s"):
        received(endpoint, [("small", None)], [40], timeout_s=0.3)
    assert 0.3 <= time.monotonic() - started < 3
    never.set()
    if not listens:
        stack.close()


def test_a_source_that_pauses_for_less_than_the_deadline_is_waited_for(serve):
    def find(_key, _box):
        for byte in b"slowly":
            time.sleep(0.25)
            yield bytes([byte])

    got = received(serve(find=find).endpoint, [("", None)], [6], timeout_s=1.0)
    assert got == b"slowly"


def test_a_writer_that_is_busy_for_longer_than_the_deadline_is_waited_for(serve):
    reader = Reader(HOST, serve(timeout_s=0.2).endpoint, [("large", None)], 0.2)
    time.sleep(0.6)
    buffer = bytearray(11 << 20)
    reader.receive_into(memoryview(buffer))
    reader.close()
    assert buffer == ARRAYS["large"].tobytes()


def test_nothing_is_made_far_ahead_of_a_writer_that_is_slow(serve):
    made = []

    def find(_key, _box):
        for number in range(64):
            made.append(number)
            yield bytes(4 << 20)

    reader = Reader(HOST, serve(find=find).endpoint, [("large", None)], 5.0)
    time.sleep(0.3)
    assert len(made) <= 4
    reader.close()


def test_a_writer_that_hangs_up_ends_the_sending(serve):
    made, over = [], threading.Event()

    def find(_key, _box):
        try:
            for number in range(1000):
                made.append(number)
                yield bytes(4 << 20)
        finally:
            over.set()

    reader = Reader(HOST, serve(find=find).endpoint, [("large", None)], 5.0)
    reader.receive_into(memoryview(bytearray(1)))
    reader.close()
    assert over.wait(5)
    assert len(made) < 100


def test_a_closed_server_takes_nobody_in(serve):
    server = serve()
    endpoint = server.endpoint
    server.close()
    with pytest.raises(HostLostError):
        received(endpoint, [("small", None)], [40])


def test_a_server_may_be_closed_twice(serve):
    server = serve()
    server.close()
    server.close()


def test_a_server_that_closes_lets_nobody_wait(serve):
    server = serve(timeout_s=60)
    reader = Reader(HOST, server.endpoint, [("large", None)] * 10, 60)
    reader.receive_into(memoryview(bytearray(1)))
    with connected(server.endpoint) as silent:
        server.close()
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""
    with pytest.raises(HostLostError):
        reader.receive_into(memoryview(bytearray(100 << 20)))
    reader.close()


def test_who_connects_just_before_a_server_closes_is_hung_up_on(serve):
    server = serve(timeout_s=60)
    server.close()
    theirs, ours = socket.socketpair()
    server._serve(theirs)
    assert ours.recv(1) == b""
    ours.close()


def test_hosts_of_one_machine_open_no_port():
    for address in (ONE_MACHINE, ANOTHER):
        server = Server(address, Snapshot(ARRAYS).chunks, 5.0)
        where = server.endpoint.address
        server.close()
        assert (address == ONE_MACHINE) == isinstance(where, bytes)
        assert address == ONE_MACHINE or where[0] == address


def test_every_server_has_a_token_of_its_own(serve):
    token = serve().endpoint.token
    assert len(token) == 32
    assert serve().endpoint.token != token
