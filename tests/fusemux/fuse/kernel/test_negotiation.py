"""What INIT settles, as a table."""

from __future__ import annotations

import pytest

from fusemux.fuse.kernel import negotiation
from fusemux.fuse.kernel import protocol as p
from fusemux.fuse.kernel.negotiation import Wishes, negotiate
from fusemux.fuse.kernel.protocol import InitFlag
from fusemux.fuse.kernel.requests import InitRequest
from fusemux.graph.framework.errors import FusemuxError
from tests.fusemux.fuse.kernel.wire import ALL_FLAGS


def offer(minor: int = 45, flags: int = ALL_FLAGS) -> InitRequest:
    return InitRequest(7, minor, 131072, flags)


@pytest.mark.parametrize(("kernel", "agreed"), [(31, 31), (38, 38), (45, 45), (99, 45)])
def test_the_lower_version_counts(kernel: int, agreed: int) -> None:
    assert negotiate(offer(kernel), Wishes()).minor == agreed


def test_old_kernels_are_refused_with_the_way_out() -> None:
    with pytest.raises(FusemuxError, match=r"FUSE 7\.30.*pyfuse3"):
        negotiate(offer(30), Wishes())


def test_nothing_is_taken_that_was_not_offered() -> None:
    agreement = negotiate(offer(flags=0), Wishes(writeback_cache=True, posix_acl=True, passthrough=True, locks=True))
    assert agreement.flags == 0
    assert agreement.max_pages == 32


@pytest.mark.parametrize(
    ("wishes", "present", "absent"),
    [
        (Wishes(), "READDIRPLUS_AUTO DO_READDIRPLUS PARALLEL_DIROPS HANDLE_KILLPRIV_V2 EXPLICIT_INVAL_DATA",
         "WRITEBACK_CACHE POSIX_ACL PASSTHROUGH POSIX_LOCKS FLOCK_LOCKS AUTO_INVAL_DATA SUBMOUNTS SECURITY_CTX"),
        (Wishes(writeback_cache=True), "WRITEBACK_CACHE", "PASSTHROUGH"),
        (Wishes(passthrough=True), "PASSTHROUGH", "WRITEBACK_CACHE"),
        (Wishes(passthrough=True, writeback_cache=True), "WRITEBACK_CACHE", "PASSTHROUGH"),
        (Wishes(posix_acl=True), "POSIX_ACL DONT_MASK", ""),
        (Wishes(locks=True), "POSIX_LOCKS FLOCK_LOCKS", ""),
        (Wishes(shared=True), "AUTO_INVAL_DATA", "EXPLICIT_INVAL_DATA POSIX_LOCKS"),
        (Wishes(readdirplus="never"), "", "DO_READDIRPLUS READDIRPLUS_AUTO"),
        (Wishes(readdirplus="always"), "DO_READDIRPLUS", "READDIRPLUS_AUTO"),
    ],
)  # fmt: skip
def test_wishes_become_flags(wishes: Wishes, present: str, absent: str) -> None:
    agreement = negotiate(offer(), wishes)
    assert all(agreement.has(InitFlag[name]) for name in present.split())
    assert not any(agreement.has(InitFlag[name]) for name in absent.split())


@pytest.mark.parametrize(("wanted", "granted"), [(1 << 20, 1 << 20), (5000, 4096), (1, 4096), (10 << 20, 10 << 20)])
def test_max_write_is_whole_pages(wanted: int, granted: int) -> None:
    agreement = negotiate(offer(), Wishes(max_write=wanted))
    assert (agreement.max_write, agreement.max_pages) == (granted, granted // 4096)


def test_flags_travel_in_two_words() -> None:
    agreement = negotiate(offer(), Wishes(passthrough=True))
    values = p.INIT.unpack(negotiation.reply(4, agreement))
    assert values[:3] == (80, 0, 4)
    assert values[3:5] == (7, 45)
    assert values[6] & InitFlag.INIT_EXT
    assert values[13] << 32 & InitFlag.PASSTHROUGH
    assert values[14] == 1  # max_stack_depth


def test_a_newer_major_version_is_told_ours() -> None:
    assert p.INIT.unpack(negotiation.reply_other_major(4))[:5] == (80, 0, 4, 7, 45)
