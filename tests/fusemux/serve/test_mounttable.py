"""Reading and watching the kernel's table of mounts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import trio
import trio.testing

from fusemux.serve import mounttable

TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
90 27 0:50 / /mnt/a\040b\134c rw,nosuid,relatime shared:7 master:1 - fuse.fusemux replica=3,size=1G\0402 rw,user_id=0,group_id=0
91 27 0:51 / /mnt/x ro - tmpfs none rw
92 91 0:52 / /mnt/x rw - fuse.fusemux 2x2 ro,user_id=0
"""


def test_paths_and_sources_are_unescaped() -> None:
    entry = mounttable.read(TABLE)[2]
    assert (entry.path, entry.source, entry.fstype) == ("/mnt/a b\\c", "replica=3,size=1G 2", "fuse.fusemux")
    assert (entry.options, entry.superblock) == ("rw,nosuid,relatime", "rw,user_id=0,group_id=0")
    assert entry.is_ours


def test_the_topmost_mount_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = mounttable.read(TABLE)
    monkeypatch.setattr(mounttable, "read", lambda: entries)
    found = mounttable.mounted_at("/mnt/x")
    assert found is not None
    assert (found.id, found.source) == (92, "2x2")
    assert mounttable.mounted_at("/mnt") is None


def test_the_kernels_own_table_can_be_read() -> None:
    assert any(entry.path == "/" for entry in mounttable.read())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tmpfs")
def test_a_change_of_the_table_wakes_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounttable, "RECHECK_S", 60)

    async def main() -> None:
        with mounttable.opened() as table:
            for command in (["mount", "-t", "tmpfs", "fusemux-test", tmp_path], ["umount", tmp_path]):
                with trio.fail_after(20):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(mounttable.wait_changed, table)
                        await trio.testing.wait_all_tasks_blocked()
                        await trio.run_process(command)

    try:
        trio.run(main)
    finally:
        subprocess.run(["umount", "-q", tmp_path], check=False)
