"""What a server leaves behind for those who must clean up."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

from fusemux.graph.framework.errors import FusemuxError
from fusemux.serve.record import ServerRecord, all_records, record_of, servers_dir


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEMUX_RUN_DIR", str(tmp_path / "run"))


def test_a_record_is_alive_as_long_as_its_server_and_gone_after(tmp_path: Path) -> None:
    record = ServerRecord()
    record.write(mounts=["/mnt/a", "/mnt/b"], volumes=["a", "b"], ramdisks=["/r/0"], folders=["/r"])
    (found,) = all_records()
    assert (found.pid, found.alive) == (os.getpid(), True)
    assert (found.mounts, found.volumes, found.ramdisks, found.folders) == (
        ("/mnt/a", "/mnt/b"),
        ("a", "b"),
        ("/r/0",),
        ("/r",),
    )
    assert record_of("/mnt/b") == found
    assert record_of("/mnt/c") is None
    assert not found.has_ended()
    record.close()
    assert found.has_ended()
    assert all_records() == []


def test_a_shorter_record_replaces_a_longer_one() -> None:
    record = ServerRecord()
    try:
        record.write(mounts=["/mnt/" + "x" * 500], volumes=["a"], ramdisks=[])
        record.write(mounts=["/m"], volumes=["a"], ramdisks=[])
        assert all_records()[0].mounts == ("/m",)
    finally:
        record.close()


def test_a_dead_record_that_somebody_else_reads_is_dead() -> None:
    servers_dir().mkdir(parents=True)
    (servers_dir() / "1.json").write_text('{"mounts": ["/m"]}')
    with open(servers_dir() / "1.json", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not all_records()[0].alive


def test_who_reads_while_it_is_written_finds_it_whole_and_alive() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        record = ServerRecord()
        record.write(mounts=["/m"], volumes=["a"], ramdisks=[])
        os.write(writer, b"x")
        while True:
            record.write(mounts=["/m", "/mnt/" + "x" * 3000], volumes=["a"], ramdisks=[])
            record.write(mounts=["/m"], volumes=["a"], ramdisks=[])
    os.read(reader, 1)
    try:
        for _ in range(2000):
            found = record_of("/m")
            assert found is not None
            assert not found.has_ended()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_record_of_a_killed_server_stays_and_is_dead() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        record = ServerRecord()
        record.write(mounts=["/mnt/a"], volumes=["a"], ramdisks=["/r/0"])
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    assert record_of("/mnt/a") is not None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (found,) = all_records()
    assert (found.pid, found.alive, found.mounts, found.ramdisks) == (child, False, ("/mnt/a",), ("/r/0",))
    assert record_of("/mnt/a") is None
    found.discard()
    assert all_records() == []
    os.close(reader)
    os.close(writer)


def test_only_the_owner_may_look_into_the_folder_of_servers() -> None:
    record = ServerRecord()
    record.close()
    assert servers_dir().stat().st_mode & 0o777 == 0o700


def test_rubbish_in_the_folder_is_passed_over() -> None:
    servers_dir().mkdir(parents=True)
    (servers_dir() / "1.json").write_text("{")
    (servers_dir() / "x.json").write_text("{}")
    assert all_records() == []


def test_a_run_directory_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FUSEMUX_RUN_DIR", str(tmp_path / "file"))
    with pytest.raises(FusemuxError, match=r"cannot be used.*FUSEMUX_RUN_DIR"):
        ServerRecord()
