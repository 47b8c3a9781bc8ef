"""Serves file systems in memory through KernelBinding, for tests in another process.

    python -m tests.fusemux.fuse.kernel.server [--writeback] [--timeouts SECONDS] DIR...

Says `ready` when all are mounted, then obeys lines of standard input and answers each with a line of JSON:
`unmount DIR`, `detach DIR`, `stop`, `statistics`, `state DIR`, `rewrite DIR NAME TEXT` (as another client would),
`fork`.  Who asks for the xattr `user.slow` waits for ever; who writes `slow` waits for the next read, for a second at most,
and once more when it is written;
reading a file named `boom` raises.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import sys
import time
from functools import partial
from typing import Any

import trio

from fusemux.fuse.binding import MountOptions, MountPoint
from fusemux.fuse.kernel import KernelBinding
from fusemux.graph.framework.errors import FusemuxError
from fusemux.graph.framework.types import Frame
from tests.fusemux.fuse.kernel.memory import MemoryBridge


def bridge() -> MemoryBridge:
    made = MemoryBridge()

    async def read(frame: Frame, fh: int, offset: int, size: int) -> None:
        node = made.handles[fh]
        read_again.set()
        if node.parent.names.get(b"boom") is node:
            raise ZeroDivisionError("a bug in the bridge")

    async def getxattr(frame: Frame, nodeid: int, name: bytes) -> None:
        if name == b"user.slow":
            await trio.sleep_forever()

    async def write(frame: Frame, fh: int, offset: int, data: memoryview) -> None:
        nonlocal read_again
        if data == b"slow":
            read_again = trio.Event()
            with trio.move_on_after(1):
                await read_again.wait()
            made.handles[fh].data[offset:] = data
            await trio.sleep(0.2)

    read_again = trio.Event()
    made.before["read"] = read
    made.before["write"] = write
    made.before["getxattr"] = getxattr
    return made


async def serve(options: argparse.Namespace) -> None:
    binding = KernelBinding()
    bridges = {path: bridge() for path in options.directories}
    timeouts = options.timeouts
    given = MountOptions(
        writeback_cache=options.writeback, entry_timeout=timeouts, attr_timeout=timeouts, negative_timeout=timeouts
    )
    points = [
        MountPoint(made, path, f"volume{number}", given)  # type: ignore[arg-type]
        for number, (path, made) in enumerate(bridges.items())
    ]
    await binding.mount(points)
    print("ready", flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(obey, binding, bridges)
        await binding.serve()
        nursery.cancel_scope.cancel()


async def obey(binding: KernelBinding, bridges: dict[str, MemoryBridge]) -> None:
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        word, *rest = line.split()
        try:
            answer = await command(binding, bridges, word, rest)
        except FusemuxError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


async def command(binding: KernelBinding, bridges: dict[str, MemoryBridge], word: str, rest: list[str]) -> Any:
    if word == "unmount":
        await binding.unmount(rest[0])
    elif word == "detach":
        await binding.unmount(rest[0], lazy=True)
    elif word == "stop":
        await binding.stop()
    elif word == "statistics":
        return binding.statistics()
    elif word == "state":
        made = bridges[rest[0]]
        stored = sum(len(node.data) for node in made.nodes.values())
        return {"handles": len(made.handles), "nodes": len(made.nodes), "bytes": stored}
    elif word == "rewrite":
        made = bridges[rest[0]]
        node = made.root.names[rest[1].encode()]
        node.data[:] = rest[2].encode()
        node.touch()
        assert made.on_invalidate is not None
        made.on_invalidate(node.number)
    elif word == "fork":
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        return {"pid": child}
    else:
        raise FusemuxError(f"{word}: {os.strerror(errno.EINVAL)}")
    return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--writeback", action="store_true")
    parser.add_argument("--timeouts", type=float, default=float("inf"))
    parser.add_argument("directories", nargs="+")
    logging.basicConfig(level=logging.INFO)
    trio.run(partial(serve, parser.parse_args()))


if __name__ == "__main__":
    main()
