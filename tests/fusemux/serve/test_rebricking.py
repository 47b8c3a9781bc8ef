"""Bricks of a served volume are changed: all of it or nothing, and in which order."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from fusemux.bricks.prepare import prepare
from fusemux.graph.cluster.replicate import Replicate
from fusemux.graph.framework.errors import FopError, FusemuxError
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.types import Frame
from fusemux.serve import rebricking
from fusemux.serve.bricks import BrickChanges
from fusemux.serve.volume import ServedVolume
from fusemux.volume.definition import BrickSpec, Volume
from fusemux.volume.source import DefinedSource
from fusemux.volume.store import VolumeStore

Body = Callable[[ServedVolume, BrickChanges], Awaitable[None]]


def in_process(tmp_path: Path, body: Body, *, count: int = 2, **more: Any) -> None:
    """Serve a stored volume of `count` copies while `body` runs."""
    bricks = tuple(BrickSpec(str(tmp_path / f"b{i}")) for i in range(count))
    given = {"replica": count, "options": {"cluster.self-heal-daemon": "off"}, **more}
    volume = Volume("web", bricks, **given)
    for brick in bricks:
        prepare(brick.path, str(volume.id))
    store = VolumeStore(tmp_path / "state")
    store.create(volume)

    async def main() -> None:
        async with Process(strict=True) as process:
            served = ServedVolume(process, DefinedSource(volume))
            await served.start()
            try:
                await body(served, BrickChanges(lambda _: served, store=store))
            finally:
                await served.stop()

    trio.run(main)


async def write(served: ServedVolume, name: bytes) -> None:
    _, _, fh = await served.bridge.create(Frame(), 1, name, os.O_RDWR, 0o644)
    await served.bridge.write(Frame(), fh, 0, name)
    await served.bridge.release(Frame(), fh)


def marks(path: Path) -> dict[str, bytes]:
    """What is not zero in the changelog of a brick's root."""
    found = {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("trusted.afr")}
    return {name.removeprefix("trusted.afr."): value for name, value in found.items() if any(value)}


def snapshot(tmp_path: Path) -> list[Any]:
    """What must be as before when a change has failed."""
    volume = VolumeStore(tmp_path / "state").load("web")
    folders = sorted(name for name in os.listdir(tmp_path) if name != "state")
    return [
        volume.bricks,
        volume.numbers,
        volume.replica,
        volume.arbiter,
        folders,
        [marks(tmp_path / f) for f in folders],
    ]


async def heal(served: ServedVolume) -> None:
    for translator in served.graph.translators.values():
        if isinstance(translator, Replicate):
            progress = await translator.healer.sweep()
            assert (progress.failed, progress.split_brain) == (0, 0)


CHANGES: dict[str, Callable[[BrickChanges, Path], Awaitable[Any]]] = {
    "replace": lambda changes, tmp: changes.replace("web", "1", [str(tmp / "new"), None]),
    "add": lambda changes, tmp: changes.add("web", [[str(tmp / "new"), None]], replica=3),
    "add a set": lambda changes, tmp: changes.add("web", [[str(tmp / n), None] for n in ("new", "new2")]),
}


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (change, step)
        for change in CHANGES
        for step in ("acquire", "accuse", "store", "graph")
        if (change, step) != ("add a set", "accuse")  # nobody is accused of a new set
    ],
)
def test_a_change_that_fails_at_any_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, step: str
) -> None:
    async def fails(*args: Any, **more: Any) -> None:
        raise FopError(errno.EIO, "on purpose") if step == "accuse" else FusemuxError("on purpose")

    def fails_at_once(*args: Any) -> None:
        raise FusemuxError("on purpose")

    async def body(served: ServedVolume, changes: BrickChanges) -> None:
        await write(served, b"before")
        before = snapshot(tmp_path)
        with monkeypatch.context() as patched:
            if step == "acquire":
                patched.setattr(served, "_attach", fails)
            elif step == "accuse":
                patched.setattr(rebricking, "accuse_fresh", fails)
            elif step == "store":
                patched.setattr(changes, "_store", fails_at_once)
            else:
                patched.setattr(served, "change_bricks", fails)
            with pytest.raises(FusemuxError, match=r"on purpose|no copy has recorded"):
                await CHANGES[change](changes, tmp_path)
        assert snapshot(tmp_path) == before
        assert sorted(served.process.bricks) == [str(tmp_path / "b0"), str(tmp_path / "b1")]
        await write(served, b"after")
        for name in ("before", "after"):
            assert [(tmp_path / brick / name).exists() for brick in ("b0", "b1")] == [True, True]
        await CHANGES[change](changes, tmp_path)
        await heal(served)

    in_process(tmp_path, body)


def test_a_new_copy_is_accused_before_it_is_stored_and_a_copy_that_leaves_is_stored_before_it_gets_no_more_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So wherever the process dies, the next mount trusts no brick that lacks something."""
    order: list[str] = []

    async def body(served: ServedVolume, changes: BrickChanges) -> None:
        store, graph = changes._store, served.change_bricks

        def stored(before: Volume, after: Volume) -> Any:
            order.append("stored")
            order.append(f"accused: {'web-client-2' in marks(tmp_path / 'b0')}")
            return store(before, after)

        async def changed(source: Any) -> None:
            order.append("graph")
            await graph(source)

        monkeypatch.setattr(changes, "_store", stored)
        monkeypatch.setattr(served, "change_bricks", changed)
        await CHANGES["add"](changes, tmp_path)
        await heal(served)
        await changes.remove("web", 2, [str(tmp_path / "b1")])

    in_process(tmp_path, body)
    assert order == ["stored", "accused: True", "graph", "stored", "accused: False", "graph"]


def test_options_that_do_not_fit_fewer_copies_are_told_and_the_volume_goes_on(tmp_path: Path) -> None:
    async def body(served: ServedVolume, changes: BrickChanges) -> None:
        await write(served, b"before")
        with pytest.raises(FusemuxError, match="read-subvolume-index 2: web-replicate-0 has the children 0 to 1"):
            await changes.remove("web", 2, ["0"])
        assert changes.store.load("web").replica == 3
        await write(served, b"after")
        assert (tmp_path / "b0/after").read_bytes() == b"after"

    in_process(
        tmp_path, body, count=3, options={"cluster.read-subvolume-index": "2", "cluster.self-heal-daemon": "off"}
    )


def test_changes_of_one_volume_come_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(served: ServedVolume, changes: BrickChanges) -> None:
        changed = served.change_bricks

        async def slow(source: Any) -> None:
            with pytest.raises(FusemuxError, match="the bricks of volume 'web' are being changed"):
                await changes.replace("web", "0", [str(tmp_path / "other"), None])
            await changed(source)

        monkeypatch.setattr(served, "change_bricks", slow)
        await CHANGES["add"](changes, tmp_path)
        await heal(served)

    in_process(tmp_path, body)


def test_what_is_not_stored_keeps_its_bricks(tmp_path: Path) -> None:
    async def body(served: ServedVolume, changes: BrickChanges) -> None:
        source = served.source
        assert isinstance(source, DefinedSource)
        served.source = DefinedSource(replace(source.volume, throwaway=True))
        with pytest.raises(
            FusemuxError, match="is a throw-away volume, whose bricks stay as they are; `fusemux volume create`"
        ):
            await CHANGES["add"](changes, tmp_path)
        served.source = source

    in_process(tmp_path, body)
