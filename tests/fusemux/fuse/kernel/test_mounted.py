"""Every operation through a real mount."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fusemux.fuse.kernel.conftest import Server
from tests.parity import libc

pytestmark = pytest.mark.mount

_libc = ctypes.CDLL(None, use_errno=True)


def raises(number: int) -> contextlib.AbstractContextManager[object]:
    return pytest.raises(OSError, match=rf"\[Errno {number}\]")


def rename2(old: Path, new: Path, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def in_child(action: Callable[[], object]) -> int:
    """Run it in a child process: the errno with which it failed, 0 when it did not."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 255
    try:
        action()
        status = 0
    except OSError as error:
        status = error.errno or 254
    finally:
        os._exit(status)


def test_proc_mounts_shows_source_and_type(mounted: Server) -> None:
    with open("/proc/mounts") as lines:
        (line,) = [line.split() for line in lines if line.split()[1] == str(mounted.mount)]
    assert line[0] == "volume0"
    assert line[2] == "fuse.fusemux"
    assert {"rw", "default_permissions", "allow_other"} <= set(line[3].split(","))


def test_names(mounted: Server) -> None:
    m = mounted.mount
    (m / "d").mkdir(0o751)
    assert stat.S_IMODE((m / "d").stat().st_mode) == 0o751
    (m / "d" / "f").write_text("content")
    os.link(m / "d" / "f", m / "hard")
    assert (m / "hard").stat().st_nlink == (m / "d" / "f").stat().st_nlink == 2
    os.symlink("d/f", m / "soft")
    assert os.readlink(m / "soft") == "d/f"
    assert (m / "soft").read_text() == "content"
    os.mknod(m / "pipe", 0o600 | stat.S_IFIFO)
    os.mknod(m / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    assert (m / "null").stat().st_rdev == os.makedev(1, 3)
    assert sorted(os.listdir(m)) == ["d", "hard", "null", "pipe", "soft"]
    os.unlink(m / "hard")
    assert (m / "d" / "f").stat().st_nlink == 1
    with raises(errno.ENOTEMPTY):
        os.rmdir(m / "d")
    os.unlink(m / "d" / "f")
    os.rmdir(m / "d")
    assert not (m / "d").exists()


def test_long_names(mounted: Server) -> None:
    m = mounted.mount
    (m / ("n" * 255)).touch()
    assert (m / ("n" * 255)).exists()
    with raises(errno.ENAMETOOLONG):
        (m / ("n" * 256)).touch()
    with raises(errno.ENAMETOOLONG):
        os.stat(m / ("n" * 256))
    name = os.fsencode(m) + b"/\xff\xfe"
    os.close(os.open(name, os.O_CREAT))
    assert b"\xff\xfe" in os.listdir(os.fsencode(m))


def test_renames(mounted: Server) -> None:
    m = mounted.mount
    (m / "a").write_text("a")
    (m / "b").write_text("b")
    with raises(errno.EEXIST):
        rename2(m / "a", m / "b", 1)
    rename2(m / "a", m / "b", 2)
    assert (m / "a").read_text() + (m / "b").read_text() == "ba"
    os.rename(m / "a", m / "b")
    assert os.listdir(m) == ["b"]
    assert (m / "b").read_text() == "b"


def test_data(mounted: Server) -> None:
    m = mounted.mount
    content = os.urandom(3 << 20)
    (m / "f").write_bytes(content)
    assert (m / "f").read_bytes() == content
    with open(m / "f", "r+b") as f:
        f.seek(100)
        f.write(b"XYZ")
        f.flush()
        os.fsync(f.fileno())
        os.fdatasync(f.fileno())
        assert os.pread(f.fileno(), 5, 99) == content[99:100] + b"XYZ" + content[103:104]
        f.truncate(50)
        assert os.fstat(f.fileno()).st_size == 50
    fd = os.open(m / "f", os.O_RDWR | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.close(fd)
    with open(m / "f", "ab") as f:
        f.write(b"1")
    with open(m / "f", "ab") as f:
        f.write(b"2")
    assert (m / "f").read_bytes() == b"12"


def test_direct_io_and_mmap(mounted: Server) -> None:
    m = mounted.mount
    buffer = mmap.mmap(-1, 1 << 20)
    buffer.write(os.urandom(1 << 20))
    fd = os.open(m / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    assert os.writev(fd, [buffer]) == 1 << 20
    back = mmap.mmap(-1, 1 << 20)
    assert os.preadv(fd, [back], 0) == 1 << 20
    assert buffer[:] == back[:]
    os.close(fd)
    with open(m / "f", "r+b") as f, mmap.mmap(f.fileno(), 0) as shared:
        shared[10:13] = b"abc"
        shared.flush()
        assert os.pread(f.fileno(), 3, 10) == b"abc"


def test_an_unlinked_file_lives_while_it_is_open(mounted: Server) -> None:
    m = mounted.mount
    with open(m / "f", "w+b") as f:
        f.write(b"still here")
        f.flush()
        os.unlink(m / "f")
        assert os.listdir(m) == []
        assert os.pread(f.fileno(), 100, 0) == b"still here"
        assert os.fstat(f.fileno()).st_nlink == 0


def test_attributes(mounted: Server) -> None:
    f = mounted.mount / "f"
    f.touch()
    os.chmod(f, 0o640)
    os.chown(f, 12, 34)
    os.utime(f, ns=(1_000_000_001, -1_000_000_001))
    st = f.stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o640, 12, 34)
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_001, -1_000_000_001)
    before = st.st_ctime_ns
    os.utime(f)
    assert f.stat().st_mtime_ns > 1_600_000_000_000_000_000
    assert f.stat().st_ctime_ns > before


def test_umask_counts_once(mounted: Server) -> None:
    old = os.umask(0o027)
    try:
        (mounted.mount / "d").mkdir()
        (mounted.mount / "f").touch(0o666)
    finally:
        os.umask(old)
    assert stat.S_IMODE((mounted.mount / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((mounted.mount / "f").stat().st_mode) == 0o640


def test_xattrs(mounted: Server) -> None:
    f = mounted.mount / "f"
    f.touch()
    os.setxattr(f, "user.a", b"value")
    os.setxattr(f, "user.b", b"x" * 60000)
    assert os.getxattr(f, "user.a") == b"value"
    assert os.getxattr(f, "user.b") == b"x" * 60000
    assert sorted(os.listxattr(f)) == ["user.a", "user.b"]
    with raises(errno.EEXIST):
        os.setxattr(f, "user.a", b"", os.XATTR_CREATE)
    with raises(errno.ENODATA):
        os.setxattr(f, "user.c", b"", os.XATTR_REPLACE)
    os.removexattr(f, "user.a")
    with raises(errno.ENODATA):
        os.getxattr(f, "user.a")


def test_directories_of_many_names(mounted: Server) -> None:
    m = mounted.mount
    names = {f"{'x' * (n % 50)}{n}" for n in range(1500)}
    for name in names:
        (m / name).touch()
    assert set(os.listdir(m)) == names
    with os.scandir(m) as entries:
        assert {entry.name for entry in entries if entry.stat().st_size == 0} == names
    (m / "new").touch()
    assert set(os.listdir(m)) == names | {"new"}  # the cached listing is not used any more


def test_statfs(mounted: Server) -> None:
    st = os.statvfs(mounted.mount)
    assert (st.f_bsize, st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_namemax) == (
        4096,
        1000,
        900,
        800,
        500,
        255,
    )
    os.sync()


def test_what_pyfuse3_has_not(mounted: Server) -> None:
    m = mounted.mount
    fd = os.open(m, os.O_TMPFILE | os.O_RDWR)
    os.write(fd, b"0123456789")
    assert os.listdir(m) == []
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 10
    with raises(errno.ENXIO):
        os.lseek(fd, 100, os.SEEK_DATA)
    fallocate(fd, 0, 0, 20)
    assert os.fstat(fd).st_size == 20
    fallocate(fd, 3, 2, 3)
    assert os.pread(fd, 10, 0) == b"01\0\0\x0056789"
    with raises(errno.EOPNOTSUPP):
        fallocate(fd, 8, 0, 4096)
    other = os.open(m / "copy", os.O_CREAT | os.O_RDWR)
    assert os.copy_file_range(fd, other, 8, 1, 0) == 8
    assert os.pread(other, 100, 0) == b"1\0\0\x005678"
    os.close(other)
    os.close(fd)


def test_ioctls_are_refused_cleanly(mounted: Server) -> None:
    f = mounted.mount / "f"
    f.touch()
    with open(f) as opened:
        for number in (0x80086601, 0x5401, 0xC0FF1234, 3 << 30 | 0x3FFF << 16 | 1):
            with raises(errno.ENOTTY):
                fcntl.ioctl(opened, number, bytearray(16384))


def test_locks_work_and_ask_nobody(mounted: Server) -> None:
    f = mounted.mount / "f"
    f.touch()
    with open(f, "r+") as one, open(f, "r+") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with raises(errno.EAGAIN):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.lockf(one, fcntl.LOCK_EX)
        assert in_child(lambda: fcntl.lockf(two, fcntl.LOCK_EX | fcntl.LOCK_NB)) == errno.EAGAIN


def test_file_handles(mounted: Server) -> None:
    (mounted.mount / "d").mkdir()
    (mounted.mount / "d" / "f").write_text("by handle")
    handle = libc.file_handle(os.fsencode(mounted.mount / "d" / "f"))
    root = os.open(mounted.mount, os.O_RDONLY)
    fd = libc.open_by_handle(root, handle)
    assert os.read(fd, 100) == b"by handle"
    os.close(fd)
    os.close(root)


def test_setuid_goes_when_others_write(mounted: Server) -> None:
    f = mounted.mount / "f"
    f.touch()
    os.chown(f, 1000, 1000)
    os.chmod(f, 0o6777)
    directory = os.open(mounted.mount, os.O_RDONLY)  # others may not come here by path

    def write_as_somebody() -> None:
        os.setgid(1000)
        os.setuid(1000)
        os.write(os.open("f", os.O_WRONLY, dir_fd=directory), b"x")

    assert in_child(write_as_somebody) == 0
    os.close(directory)
    assert stat.S_IMODE(f.stat().st_mode) == 0o777
    os.chmod(f, 0o6777)
    f.write_bytes(b"root may")
    assert stat.S_IMODE(f.stat().st_mode) == 0o6777


def test_nothing_stays_open_or_known(mounted: Server) -> None:
    m = mounted.mount
    for n in range(50):
        (m / f"f{n}").write_text("x")
        os.unlink(m / f"f{n}")
    os.mkdir(m / "d")
    os.listdir(m / "d")
    os.rmdir(m / "d")
    for n in range(200):  # releases and forgets are not waited for; each of these is behind some of them
        with raises(errno.ENOENT):
            os.stat(m / f"nothing{n}")
        if mounted.tell("state", m) == {"handles": 0, "nodes": 1, "bytes": 0}:
            break
    assert mounted.tell("state", m) == {"handles": 0, "nodes": 1, "bytes": 0}


@pytest.mark.parametrize("option", ["--writeback", "--timeouts=0", "--timeouts=1"])
def test_other_caching_sees_the_same(serve: Callable[..., Server], option: str) -> None:
    m = serve(option).mount
    content = os.urandom(300_000)
    (m / "f").write_bytes(content)
    with open(m / "f", "r+b") as f:
        f.seek(5000)
        f.write(b"abc")
    expected = content[:5000] + b"abc" + content[5003:]
    assert (m / "f").read_bytes() == expected
    os.rename(m / "f", m / "g")
    assert not (m / "f").exists()
    assert (m / "g").stat().st_size == len(expected)


@pytest.mark.parametrize("option", ["--writeback", "--timeouts=1"])
def test_what_the_kernel_has_not_written_yet_is_no_hole(serve: Callable[..., Server], option: str) -> None:
    fd = os.open(serve(option).mount / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x" * 10_000)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 10_000
    assert os.lseek(fd, 5000, os.SEEK_DATA) == 5000
    os.close(fd)


def test_who_reads_a_new_file_sees_what_is_written_to_it_past_the_page_cache(mounted: Server) -> None:
    path = mounted.mount / "f"
    writer = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND)
    os.write(writer, b"a" * 10_000)
    with open(path, "rb") as reader, mmap.mmap(reader.fileno(), 10_000, prot=mmap.PROT_READ) as mapped:
        assert mapped[9_999:] == b"a"
        os.write(writer, b"b" * 5_000)
        with open(path, "r+b", buffering=0) as other:
            other.write(b"c")
        assert mapped[:2] == b"ca"
        assert reader.read() == b"c" + b"a" * 9_999 + b"b" * 5_000
        os.truncate(path, 100)
        os.write(writer, b"d")
        assert path.read_bytes() == b"c" + b"a" * 99 + b"d"
    os.close(writer)


def test_who_reads_a_new_file_in_the_middle_of_a_write_sees_it_as_it_was_or_as_it_will_be(
    serve: Callable[..., Server],
) -> None:
    path = serve("--timeouts", "0").mount / "f"
    writer = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(writer, b"begin ")
    reader = os.open(path, os.O_RDONLY)
    thread = threading.Thread(target=os.write, args=(writer, b"slow"))
    thread.start()
    seen = set()
    while thread.is_alive():
        seen.add(os.pread(reader, 100, 0))
    assert seen == {b"begin ", b"begin slow"}
    os.close(writer)
    assert path.read_bytes() == b"begin slow"
    os.close(reader)


def test_what_others_change_becomes_visible(serve: Callable[..., Server]) -> None:
    server = serve()
    f = server.mount / "f"
    f.write_text("before")
    assert f.read_text() == "before"
    server.tell("rewrite", server.mount, "f", "afterwards")
    for _ in range(1000):  # the page cache is emptied by a thread
        if f.read_text() == "afterwards":
            break
    assert f.read_text() == "afterwards"
    assert f.stat().st_size == 10
