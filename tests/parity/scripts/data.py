"""Reading and writing: offsets, ends, holes, sizes, vectors, copies inside the volume."""

from __future__ import annotations

import os
from os import O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY

from tests.parity import libc
from tests.parity.scripts.table import content, file, script
from tests.parity.world import World

BLOCK = bytes(range(256)) * 16  # 4 KiB


@script
def reads_and_writes_move_the_offset_and_positioned_ones_do_not(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.write(fd, b"0123456789")
    w.lseek(fd, 0, os.SEEK_CUR)
    w.pwrite(fd, b"AB", 3)
    w.pread(fd, 4, 2)
    w.lseek(fd, 0, os.SEEK_CUR)
    w.lseek(fd, -4, os.SEEK_END)
    w.read(fd, 2)
    w.read(fd, 100)
    w.read(fd, 100)
    w.lseek(fd, -1, os.SEEK_SET)
    w.lseek(fd, 100, os.SEEK_SET)
    w.read(fd, 1)
    w.close(fd)
    w.snapshot()


@script
def reading_ends_at_the_end_of_the_file(w: World) -> None:
    file(w, b"f", BLOCK + b"tail")
    fd = w.open(b"f", O_RDONLY)
    for offset in (0, 1, 4095, 4096, 4099, 4100, 4101, 1 << 20, 1 << 40):
        w.pread(fd, 8, offset)
    w.pread(fd, 0, 0)
    w.pread(fd, 1, -1)
    w.close(fd)


@script
def descriptors_allow_what_they_were_opened_for(w: World) -> None:
    file(w, b"f", b"content")
    read_only, write_only = w.open(b"f", O_RDONLY), w.open(b"f", O_WRONLY)
    w.write(read_only, b"x")
    w.pwrite(read_only, b"x", 0)
    w.ftruncate(read_only, 0)
    w.read(write_only, 1)
    w.fallocate(read_only, 0, 0, 10)
    w.fsync(read_only)
    w.close(read_only)
    w.close(write_only)
    directory = w.open(b".", O_RDONLY)
    w.read(directory, 1)
    w.write(directory, b"x")
    w.fsync(directory)
    w.ftruncate(directory, 0)
    w.close(directory)
    w.close(directory)


@script
def writing_past_the_end_leaves_a_hole_of_zeros(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.pwrite(fd, b"end", 100_000)
    w.fstat(fd)
    w.pread(fd, 200_000, 0)
    w.pwrite(fd, b"middle", 50_000)
    w.pread(fd, 20, 49_995)
    w.close(fd)
    w.snapshot()


@script
def a_large_sparse_file_takes_little_space(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.pwrite(fd, b"x", (1 << 40) - 1)
    w.fsync(fd)
    w.fstat(fd)
    w.say("sparse", os.fstat(fd).st_blocks * 512 < 1 << 20)
    w.pread(fd, 10, (1 << 40) - 5)
    w.ftruncate(fd, 10)
    w.close(fd)
    w.stat(b"f")


@script
def truncating_cuts_and_extends_with_zeros(w: World) -> None:
    file(w, b"f", BLOCK * 3)
    for size in (10_000, 4096, 4095, 1, 0, 5000, 4096 * 4, 4096 * 4 + 1):
        w.truncate(b"f", size)
        w.stat(b"f")
        content(w, b"f")
    fd = w.open(b"f", O_RDWR)
    for size in (100, 0, 8192, -1):
        w.ftruncate(fd, size)
        w.fstat(fd)
        w.pread(fd, 10_000, 0)
    w.close(fd)


@script
def old_data_never_shows_after_a_cut_and_a_new_end(w: World) -> None:
    file(w, b"f", b"secret" * 1000)
    w.truncate(b"f", 10)
    fd = w.open(b"f", O_RDWR)
    w.pwrite(fd, b"!", 5000)
    w.pread(fd, 6000, 0)
    w.close(fd)
    w.truncate(b"f", 6000)
    content(w, b"f")


@script
def truncating_what_cannot_be_truncated(w: World) -> None:
    w.mkdir(b"d", 0o755)
    w.symlink(b"f", b"l")
    w.mkfifo(b"p", 0o644)
    file(w, b"f", b"content")
    for path in (b"d", b"missing", b"f/x", b"p", b"l"):
        w.truncate(path, 3)
    w.truncate(b"f", -1)
    w.snapshot()


@script
def vectors_are_read_and_written_in_order(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.writev(fd, [b"one ", b"", b"two ", b"three"])
    w.pwritev(fd, [b"1", b"2"], 1)
    w.lseek(fd, 0, os.SEEK_SET)
    w.readv(fd, 3, 5, 100)
    w.readv(fd, 1)
    w.close(fd)
    w.snapshot()


@script
def large_writes_come_back_whole(w: World) -> None:
    data = b"".join(b"%07d\n" % place for place in range(400_000))
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.write(fd, data)
    w.lseek(fd, 0, os.SEEK_SET)
    w.read(fd, len(data))
    w.pwrite(fd, data[:1_000_003], 777)
    w.fsync(fd)
    w.pread(fd, 2_000_000, 100)
    w.close(fd)
    w.snapshot()


@script
def small_overlapping_writes_leave_what_was_written_last(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    place = 1
    for step in range(200):
        place = place * 1103515245 + 12345 & 0x7FFFFFFF
        w.pwrite(fd, bytes([step]) * (place % 5000), place % 30_000)
    w.close(fd)
    w.snapshot()


@script
def what_one_descriptor_writes_another_reads(w: World) -> None:
    one, two = w.open(b"f", O_RDWR | O_CREAT), w.open(b"f", O_RDWR)
    w.write(one, b"first")
    w.read(two, 10)
    w.write(two, b" second")
    w.read(one, 20)
    w.ftruncate(one, 3)
    w.fstat(two)
    w.pread(two, 10, 0)
    w.close(one)
    w.pwrite(two, b"third", 1)
    w.close(two)
    w.snapshot()


@script
def the_size_is_right_at_once_after_every_change(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    for action in (lambda: w.write(fd, b"12345"), lambda: w.pwrite(fd, b"x", 99), lambda: w.ftruncate(fd, 50)):
        action()
        w.fstat(fd)
        w.stat(b"f")
        w.lseek(fd, 0, os.SEEK_END)
    w.close(fd)
    append = w.open(b"f", O_WRONLY | O_APPEND)
    w.write(append, b"more")
    w.stat(b"f")
    w.close(append)
    w.close(w.open(b"f", O_WRONLY | O_TRUNC))
    w.stat(b"f")


@script
def allocating_extends_unless_told_to_keep_the_size(w: World) -> None:
    file(w, b"f", b"content")
    fd = w.open(b"f", O_RDWR)
    w.fallocate(fd, 0, 0, 5000)
    w.fstat(fd)
    w.fallocate(fd, libc.FALLOC_KEEP_SIZE, 0, 100_000)
    w.fstat(fd)
    w.fallocate(fd, 0, 0, 0)
    w.fallocate(fd, 0, -1, 10)
    w.pread(fd, 6000, 0)
    w.close(fd)


@script
def punching_a_hole_zeroes_and_keeps_the_size(w: World) -> None:
    file(w, b"f", b"x" * 20_000)
    fd = w.open(b"f", O_RDWR)
    w.fallocate(fd, libc.FALLOC_PUNCH_HOLE | libc.FALLOC_KEEP_SIZE, 1000, 9000)
    w.fstat(fd)
    w.pread(fd, 30_000, 0)
    w.fallocate(fd, libc.FALLOC_PUNCH_HOLE, 0, 10)
    w.fallocate(fd, libc.FALLOC_PUNCH_HOLE | libc.FALLOC_KEEP_SIZE, 15_000, 100_000)
    w.pread(fd, 30_000, 0)
    w.close(fd)


@script
def posix_fallocate_makes_the_file_at_least_so_long(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.write(fd, b"content")
    w.posix_fallocate(fd, 0, 9000)
    w.posix_fallocate(fd, 2, 3)
    w.fstat(fd)
    w.pread(fd, 10_000, 0)
    w.close(fd)


@script
def seeking_finds_data_and_holes(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.pwrite(fd, BLOCK, 0)
    w.pwrite(fd, BLOCK, 1 << 20)
    w.ftruncate(fd, 2 << 20)
    w.fsync(fd)
    for offset in (
        -(1 << 40),
        -1,
        0,
        100,
        4096,
        5000,
        1 << 20,
        (1 << 20) + 4096,
        (2 << 20) - 1,
        2 << 20,
        3 << 20,
        1 << 62,
    ):
        w.lseek(fd, offset, os.SEEK_DATA)
        w.lseek(fd, offset, os.SEEK_HOLE)
    w.close(fd)


@script
def seeking_in_an_empty_file_finds_nothing(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.lseek(fd, 0, os.SEEK_DATA)
    w.lseek(fd, 0, os.SEEK_HOLE)
    w.close(fd)


@script
def copying_inside_the_volume(w: World) -> None:
    file(w, b"from", bytes(range(256)) * 100)
    source, target = w.open(b"from", O_RDONLY), w.open(b"to", O_RDWR | O_CREAT)
    w.copy_file_range(source, target, 10_000, 5, 0)
    w.copy_file_range(source, target, 100_000, 20_000, 20_000)
    w.copy_file_range(source, target, 10, 1 << 30, 0)
    w.copy_file_range(target, source, 10, 0, 0)
    w.sendfile(target, source, 100, 1000)
    w.close(source)
    w.close(target)
    w.snapshot()


@script
def everything_can_be_synced(w: World) -> None:
    fd = w.open(b"f", O_RDWR | O_CREAT)
    w.write(fd, b"content")
    w.fsync(fd)
    w.fdatasync(fd)
    w.syncfs(fd)
    w.close(fd)
    directory = w.open(b".", O_RDONLY)
    w.fsync(directory)
    w.fdatasync(directory)
    w.close(directory)
    w.snapshot()
