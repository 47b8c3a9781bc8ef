"""What a brick's file system would have on its disk: the journal of bricks/debug, with contents, and cuts at any place of it.

Changes of names, attributes, xattrs and shortened files survive a power cut in the order they
were made, up to some moment; a sync of any file makes all of them last that were made before.  What was written and not
synced may survive or not, in any file, but never what a surviving truncation took away, and never beyond the size that a file
had when the last surviving change was made: a size is one of the attributes.

Which changes a cut takes is random, and may begin between two system calls of one fop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

from fusemux.bricks.debug import journal, recording

__all__ = ["Journal", "recorded"]


class _Version(NamedTuple):
    """What a file held before one change of its contents."""

    place: int  # in the journal: how many changes came before
    content: bytes
    shortens: bool
    extends: bool


class _Unsynced:
    def __init__(self, fd: int) -> None:
        self.fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        self.versions: list[_Version] = []

    def content(self) -> bytes:
        return os.pread(self.fd, os.fstat(self.fd).st_size, 0)

    def put_back(self, content: bytes) -> None:
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, content, 0)


class _Shortened(journal.Change):
    """Its contents are put back as those of a file."""

    def undo(self) -> None:
        pass


class Journal(journal.Journal):
    """Of one brick; removed files are kept beside it."""

    def __init__(self, path: str) -> None:
        super().__init__(path, f"{path}-trash", whole=False, memory_bytes=1 << 40)
        os.mkdir(self.trash)
        self.files: dict[int, _Unsynced] = {}  # by inode number

    def cut(self, random: Random) -> str:
        """The power fails: go back to a state that the disk may be in.  What was lost, in words."""
        changes, files = len(self.changes), len(self.files)
        roll = random.random()
        kept = changes if roll < 0.25 else 0 if roll < 0.4 else random.randint(max(0, changes - 40), changes)
        contents = {number: self._survivor(file, kept, random) for number, file in self.files.items()}
        failed = self.back_to(kept)
        assert not failed, f"not undone: {failed}"
        for number, content in contents.items():
            if content is not None:
                self.files[number].put_back(content)
        self.sync()
        return f"{changes - kept} of {changes} changes, contents of {files} files"

    @staticmethod
    def _survivor(file: _Unsynced, kept: int, random: Random) -> bytes | None:
        """What a file holds after the cut; None: what it holds now."""
        states = [*file.versions, None]
        first, last = 0, len(states) - 1
        for place, version in enumerate(file.versions):
            if version.shortens and version.place < kept:
                first = place + 1
            elif version.shortens or (version.extends and version.place > kept):
                last = place
                break
        chosen = states[random.randint(first, last)]
        return chosen.content if chosen is not None else None

    def sync(self) -> None:
        self.lasts(self.made)

    def lasts(self, until: int, fd: int | None = None) -> None:
        """Contents of the file that was synced, or of all."""
        super().lasts(until, fd)
        for synced in [os.fstat(fd).st_ino] if fd is not None else list(self.files):
            file = self.files.pop(synced, None)
            if file is not None:
                os.close(file.fd)
        for file in self.files.values():  # what was shortened is so for good
            shortened = max((place for place, v in enumerate(file.versions) if v.shortens), default=-1)
            file.versions = [v._replace(place=0) for v in file.versions[shortened + 1 :]]

    def writes(self, fd: int, size: int, *, cut: bool = False) -> None:
        """The contents of an open file are about to change up to `size`; `cut`: that will be its size."""
        status = os.fstat(fd)
        file = self.files.get(status.st_ino)
        if file is None:
            file = self.files[status.st_ino] = _Unsynced(fd)
        shortens = cut and size < status.st_size
        file.versions.append(_Version(len(self.changes), file.content(), shortens, size > status.st_size))
        if shortens:
            self.note(_Shortened())


class _Os(recording.RecordingOs):
    """With contents."""

    def ftruncate(self, fd: int, size: int) -> None:
        self._writes(fd, size, cut=True)
        os.ftruncate(fd, size)

    def pwrite(self, fd: int, text: Any, offset: int) -> int:
        self._writes(fd, offset + len(text))
        return os.pwrite(fd, text, offset)

    def _writes(self, fd: int, size: int, *, cut: bool = False) -> None:
        found = recording.journal_of(os.readlink(b"/proc/self/fd/%d" % fd))
        if isinstance(found, Journal):
            found.writes(fd, size, cut=cut)


@contextmanager
def recorded(journals: list[Journal]) -> Iterator[None]:
    """The bricks note what they change."""
    for each in journals:
        recording.begin(each, _Os)
    try:
        yield
    finally:
        for each in journals:
            recording.end(each)
            each.sync()
