"""Any bytes at all as requests: each is answered or dropped, and the session goes on."""

from __future__ import annotations

import errno
import logging

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.operations import OPERATIONS
from fusemux.fuse.kernel.protocol import Opcode
from tests.fusemux.fuse.kernel.wire import Kernel, play, request

_numbers = st.one_of(st.integers(0, 8), st.integers(0, 2**64 - 1), st.sampled_from([2**31, 2**32 - 1, 2**63, 4096]))
_tails = st.one_of(
    st.binary(max_size=300),
    st.lists(st.binary(max_size=20), max_size=4).map(lambda names: b"".join(n + b"\0" for n in names)),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Requests that look right at first sight: a known opcode, a fixed part of odd numbers, odd names."""
    opcode = draw(st.one_of(st.sampled_from([int(opcode) for opcode in Opcode]), st.integers(0, 100)))
    words = [draw(_numbers).to_bytes(8, "little") for _ in range(draw(st.integers(0, 12)))]
    body = b"".join(words)[: draw(st.integers(0, 96))] + draw(_tails)
    extension = draw(st.one_of(st.just(0), st.integers(0, 65535)))
    data = bytearray(request(opcode, draw(_numbers), body, unique=draw(st.integers(1, 2**63))))
    data[36:38] = extension.to_bytes(2, "little")
    return bytes(data)


async def _feed(kernel: Kernel, stream: list[bytes]) -> None:
    for data in stream:
        await kernel.socket.send(data)
        await trio.lowlevel.checkpoint()
    asked = await kernel.send(Opcode.STATFS, 1)
    while (reply := await kernel.reply()).unique != asked or reply.body == b"":
        assert reply.errno in errno.errorcode or reply.errno in (0, -2)
    assert reply.errno == 0


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(requests(), st.binary(min_size=1, max_size=200)), max_size=12))
def test_no_bytes_disturb_the_session(stream: list[bytes]) -> None:
    logging.getLogger("fusemux.fuse").setLevel(logging.CRITICAL)
    try:
        play(lambda kernel: _feed(kernel, stream))
    finally:
        logging.getLogger("fusemux.fuse").setLevel(logging.NOTSET)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(set(p.BODIES) & set(OPERATIONS))), st.data())
def test_a_cut_request_is_never_served_from_what_lies_behind_it(opcode: Opcode, data: st.DataObject) -> None:
    """The buffer still holds the request before: a shorter one must not be completed with its bytes."""

    async def scene(kernel: Kernel) -> None:
        size = p.BODIES[opcode].size
        cut = data.draw(st.integers(0, size - 1))
        await kernel.send(1000, 1, b"\x01" * 400)
        await kernel.reply()
        await kernel.send(opcode, 1, bytes(cut))
        assert (await kernel.reply()).errno == errno.EINVAL

    logging.getLogger("fusemux.fuse").setLevel(logging.CRITICAL)
    try:
        play(scene)
    finally:
        logging.getLogger("fusemux.fuse").setLevel(logging.NOTSET)
