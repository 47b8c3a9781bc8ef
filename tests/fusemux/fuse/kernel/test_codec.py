"""The layouts of messages, byte for byte as the kernel has them."""

from __future__ import annotations

import struct

import pytest

from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel import replies
from fusemux.fuse.kernel.protocol import Opcode
from fusemux.fuse.kernel.requests import (
    ProtocolError,
    batch_forget,
    header,
    init,
    name,
    name_and_value,
    payload,
    two_names,
)
from fusemux.graph.framework.types import DirEntry, Iatt, StatVfs
from tests.fusemux.fuse.kernel.wire import fixed, request

# sizeof of each structure, from linux/fuse.h
_REQUESTS = {
    "FORGET": 8, "GETATTR": 16, "SETATTR": 88, "MKNOD": 16, "MKDIR": 8, "RENAME": 8, "RENAME2": 16, "LINK": 8, "OPEN": 8,
    "OPENDIR": 8, "CREATE": 16, "TMPFILE": 16, "READ": 40, "READDIR": 40, "READDIRPLUS": 40, "WRITE": 40, "RELEASE": 24,
    "RELEASEDIR": 24, "FLUSH": 24, "FSYNC": 16, "FSYNCDIR": 16, "SETXATTR": 16, "GETXATTR": 8, "LISTXATTR": 8,
    "GETLK": 48, "SETLK": 48, "SETLKW": 48, "ACCESS": 8, "INIT": 16, "INTERRUPT": 8, "BMAP": 16, "IOCTL": 32,
    "POLL": 24, "BATCH_FORGET": 8, "FALLOCATE": 32, "LSEEK": 24, "COPY_FILE_RANGE": 56, "COPY_FILE_RANGE_64": 56,
    "SYNCFS": 8, "STATX": 24,
}  # fmt: skip
_REPLIES = {
    "ERROR": 0, "ENTRY": 128, "CREATED": 144, "ATTRIBUTES": 104, "OPENED": 16, "WRITTEN": 8, "XATTR_SIZE": 8, "STATFS": 80,
    "LOCK": 24, "OFFSET": 8, "BLOCK": 8, "INIT": 64, "STATX": 288, "NOTIFY_INVAL_INODE": 24, "NOTIFY_INVAL_ENTRY": 16,
    "NOTIFY_PRUNE": 16,
}  # fmt: skip

IATT = Iatt(
    bytes(8) + bytes([0x81, 2, 3, 4, 5, 6, 7, 8]), 0o100640, 2, 10, 20, 0x0801, 5000, 16, 4096,
    1_500_000_000_000_000_001, -1_000_000_000 + 7, 1_700_000_000_999_999_999,
)  # fmt: skip


@pytest.mark.parametrize(("opcode", "size"), _REQUESTS.items())
def test_fixed_parts_of_requests_have_the_kernels_sizes(opcode: str, size: int) -> None:
    assert p.BODIES[Opcode[opcode]].size == size


def test_every_fixed_part_is_checked_for_its_size() -> None:
    assert {opcode.name for opcode in p.BODIES} == set(_REQUESTS)


@pytest.mark.parametrize(("layout", "size"), _REPLIES.items())
def test_replies_have_the_kernels_sizes(layout: str, size: int) -> None:
    assert getattr(p, layout).size == 16 + size


def test_ioctl_numbers_of_passthrough() -> None:
    def iow(number: int, size: int) -> int:
        return 1 << 30 | size << 16 | 229 << 8 | number

    assert iow(1, 16) == p.Backing.OPEN
    assert iow(2, 4) == p.Backing.CLOSE


def test_a_lookup_as_the_kernel_sends_it() -> None:
    data = bytes.fromhex(
        "2f000000 01000000 0600000000000000 0100000000000000 e8030000 e9030000 39300000 0000 0000 666f6f62617200"
    )
    head = header(data, len(data))
    assert (head.opcode, head.unique, head.nodeid, head.uid, head.gid, head.pid) == (1, 6, 1, 1000, 1001, 12345)
    assert name(data, p.BODY, len(data)) == b"foobar"


def test_an_entry_as_the_kernel_reads_it() -> None:
    valid = replies.validity(1.5, float("inf"))
    data = replies.entry(6, 77, IATT, valid)
    assert data[:16] == struct.pack("=IiQ", 144, 0, 6)
    assert struct.unpack_from("=QQQQII", data, 16) == (77, 0, 1, 1 << 40, 500_000_000, 0)
    assert struct.unpack_from("=QQQqqqIIIIIIIIII", data, 56) == (
        77, 5000, 16, 1_500_000_000, -1, 1_700_000_000, 1, 7, 999_999_999, 0o100640, 2, 10, 20, 0x0801, 4096, 0,
    )  # fmt: skip


def test_created_is_an_entry_and_an_open_file() -> None:
    valid = replies.validity(1, 1)
    data = replies.created(6, 77, IATT, valid, 5, 2, 3)
    assert data[16:144] == replies.entry(6, 77, IATT, valid)[16:]
    assert data[144:] == struct.pack("=QIi", 5, 2, 3)


def test_attributes_carry_the_attribute_timeout() -> None:
    valid = replies.validity(9, 2.25)
    data = replies.attributes(6, 77, IATT, valid)
    assert struct.unpack_from("=QI4x", data, 16) == (2, 250_000_000)
    assert data[32:] == replies.entry(6, 77, IATT, valid)[56:]


def test_a_negative_entry_has_no_node_but_a_timeout() -> None:
    data = replies.negative(6, replies.validity(3, 0))
    assert struct.unpack_from("=QQQQ", data, 16) == (0, 0, 3, 0)
    assert not any(data[48:])


def test_errors_are_negative() -> None:
    assert replies.error(9, 2) == struct.pack("=IiQ", 16, -2, 9)


def test_payload_of_a_reply_is_not_copied() -> None:
    content = bytearray(b"content")
    head, body = replies.with_payload(3, memoryview(content))
    assert head == struct.pack("=IiQ", 16 + 7, 0, 3)
    assert isinstance(body, memoryview)
    assert body.obj is content


def test_statfs() -> None:
    data = replies.statfs(1, StatVfs(4096, 512, 100, 50, 40, 30, 20, 20, 255))
    assert struct.unpack_from("=QQQQQIII", data, 16) == (100, 50, 40, 30, 20, 4096, 255, 512)


def test_statx_says_which_fields_are_known() -> None:
    data = replies.statx(1, 77, IATT, replies.validity(1, 1))
    mask, blksize, _, nlink, uid, gid, mode, ino, size, blocks = struct.unpack_from("=IIQIIIH2xQQQ", data, 16 + 32)
    assert (mask, blksize, nlink, uid, gid, mode, ino, size, blocks) == (0x7FF, 4096, 2, 10, 20, 0o100640, 77, 5000, 16)
    assert struct.unpack_from("=qI", data, 16 + 32 + 64) == (1_500_000_000, 1)
    assert struct.unpack_from("=II", data, 16 + 32 + 128) == (8, 1)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 255])
def test_directory_records_are_aligned(length: int) -> None:
    entry = DirEntry(b"n" * length, 12, 77, 0o100000, IATT)
    plain = replies.dirent(entry)
    plus = replies.dirent_plus(entry, 77, replies.validity(1, 1))
    assert len(plain) % 8 == len(plus) % 8 == 0
    assert (len(plain), len(plus)) == (replies.dirent_size(entry.name, False), replies.dirent_size(entry.name, True))
    assert struct.unpack_from("=QQII", plain) == (77, 12, length, 8)
    assert plain[24 : 24 + length] == entry.name
    assert plus[:128] == replies.entry(0, 77, IATT, replies.validity(1, 1))[16:]
    assert plus[128:] == plain


def test_an_entry_without_attributes_is_left_to_a_lookup() -> None:
    record = replies.dirent_plus(DirEntry(b".", 1, 7, 0o040000), 0, replies.validity(1, 1))
    assert struct.unpack_from("=Q", record) == (0,)
    assert struct.unpack_from("=QQII", record, 128) == (7, 1, 1, 4)


def test_notifications() -> None:
    assert replies.inval_inode(5, 0, 0) == struct.pack("=IiQQqq", 40, 2, 0, 5, 0, 0)
    assert replies.inval_entry(5, b"ab") == struct.pack("=IiQQII", 35, 3, 0, 5, 2, 0) + b"ab\0"
    assert replies.inval_entry(5, b"ab", expire_only=True)[28:32] == struct.pack("=I", 1)
    assert replies.prune([5, 6]) == struct.pack("=IiQI12xQQ", 48, 9, 0, 2, 5, 6)


def test_two_names_and_a_value() -> None:
    assert two_names(b"old\0new\0", 0, 8) == (b"old", b"new")
    assert name_and_value(b"user.a\0val\0ue", 0, 13, 6) == (b"user.a", b"val\0ue")


def test_payload_of_a_request_is_not_copied() -> None:
    data = request(Opcode.WRITE, 5, fixed(Opcode.WRITE, 1, 0, 4, 0, 0, 0) + b"data")
    view = payload(data, p.BODY + 40, len(data), 4)
    assert view.obj is data
    assert bytes(view) == b"data"


def test_forgets_come_in_batches() -> None:
    data = request(Opcode.BATCH_FORGET, 0, fixed(Opcode.BATCH_FORGET, 2) + struct.pack("=QQQQ", 5, 1, 6, 3))
    assert list(batch_forget(data, len(data))) == [(5, 1), (6, 3)]


def test_init_of_new_and_old_kernels() -> None:
    new = request(Opcode.INIT, 0, struct.pack("=IIIII", 7, 45, 131072, 1 << 30 | 1, 1 << 5) + bytes(44))
    assert init(new, len(new)) == (7, 45, 131072, 1 << 37 | 1 << 30 | 1)
    old = request(Opcode.INIT, 0, struct.pack("=IIII", 7, 31, 131072, 3))
    assert init(old, len(old)) == (7, 31, 131072, 3)


@pytest.mark.parametrize("cut", range(1, 8))
def test_cut_requests_are_refused(cut: int) -> None:
    """What lies behind the end of a request is left over from another one and must not be read."""
    with pytest.raises(ProtocolError):
        name(b"abcdef\0", 0, 7 - cut)
    with pytest.raises(ProtocolError):
        two_names(b"abc\0ef\0", 0, 7 - cut)
    with pytest.raises(ProtocolError):
        payload(b"abcdefg", 0, 7 - cut, 7)
    with pytest.raises(ProtocolError):
        name_and_value(b"ab\0defg", 0, 7 - cut, 4)
    data = request(Opcode.BATCH_FORGET, 0, fixed(Opcode.BATCH_FORGET, 1) + bytes(16))
    with pytest.raises(ProtocolError):
        batch_forget(data, len(data) - cut)


def test_a_header_must_say_its_length() -> None:
    with pytest.raises(ProtocolError, match="39 bytes"):
        header(bytes(40), 39)
    with pytest.raises(ProtocolError, match="says 50"):
        header(request(Opcode.GETATTR, 1, bytes(16), length=50), 56)


def test_timeouts_beyond_what_the_kernel_holds_mean_for_ever() -> None:
    assert replies.validity(float("inf"), 1e300) == (1 << 40, 1 << 40, 0, 0)
    assert replies.validity(0, -1) == (0, 0, 0, 0)
