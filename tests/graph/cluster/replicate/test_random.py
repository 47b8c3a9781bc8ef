"""Random operations against a model: copies stay alike while all are up, and nothing acknowledged is lost while one fails.

Every run is told by its seed.  Nothing is healed here, so only one brick of a run fails, again and again.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Mapping
from contextlib import suppress

import pytest
import trio

from fusemux.graph.framework.errors import FopError
from tests.graph.cluster.replicate.volume import Volume, served

NAMES = ["a", "b", "c", "d/a", "d/b", "e/a"]
FOLDERS = ["d", "e", "d/f"]


class Model:
    """What the volume must hold: contents by path, None for directories."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray | None] = {}

    def above(self, path: str) -> str:
        return path.rpartition("/")[0]

    def has_parent(self, path: str) -> bool:
        parent = self.above(path)
        return not parent or (parent in self.files and self.files[parent] is None)

    def below(self, path: str) -> list[str]:
        return [name for name in self.files if name.startswith(f"{path}/")]


async def step(volume: Volume, model: Model, random_: random.Random) -> str:
    """One operation that must succeed, on both; which."""
    kind = random_.choice(
        ["create", "write", "write", "append", "truncate", "unlink", "mkdir", "rmdir", "rename", "chmod", "xattr"]
    )
    path = random_.choice(NAMES)
    folder = random_.choice(FOLDERS)
    content = model.files.get(path)
    data = random_.randbytes(random_.randrange(1, 5000))
    match kind:
        case "create" if path not in model.files and model.has_parent(path):
            await volume.create(path, data)
            model.files[path] = bytearray(data)
        case "write" if content is not None:
            offset = random_.randrange(0, 6000)
            await volume.write(path, data, offset)
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        case "append" if content is not None:
            await volume.append(path, data)
            content.extend(data)
        case "truncate" if content is not None:
            size = random_.randrange(0, 6000)
            await volume.truncate(path, size)
            del content[size:]
            content.extend(bytes(size - len(content)))
        case "unlink" if content is not None:
            await volume.unlink(path)
            del model.files[path]
        case "mkdir" if folder not in model.files and model.has_parent(folder):
            await volume.mkdir(folder)
            model.files[folder] = None
        case "rmdir" if folder in model.files and not model.below(folder):
            await volume.rmdir(folder)
            del model.files[folder]
        case "rename" if content is not None:
            target = random_.choice(NAMES)
            if target == path or not model.has_parent(target):
                return ""
            await volume.rename(path, target)
            model.files[target] = content
            del model.files[path]
        case "chmod" if content is not None:
            await volume.chmod(path, random_.choice([0o600, 0o644, 0o755]))
        case "xattr" if content is not None:
            await volume.setxattr(path, b"user.k", data[:20])
        case _:
            return ""
    return f"{kind} {path if kind not in ('mkdir', 'rmdir') else folder}"


async def holds(volume: Volume, model: Model) -> None:
    """The volume shows exactly what the model holds."""
    for folder in ["", *(path for path, content in model.files.items() if content is None)]:
        names = {path.rpartition("/")[2] for path in model.files if model.above(path) == folder}
        assert set(await volume.names_in(folder or "/")) == names
    for path, content in model.files.items():
        if content is not None:
            assert await volume.read(path) == bytes(content)
            assert (await volume.lookup(path)).size == len(content)


ALL_UP: list[Mapping[str, str]] = [
    {}, {"eager_lock": "off"}, {"optimistic_change_log": "off"}, {"choose_local": "off"}, {"post_op_delay_secs": "0"},
]  # fmt: skip


@pytest.mark.parametrize("options", ALL_UP, ids=str)
@pytest.mark.parametrize("mode", ["inline", "pool"])
@pytest.mark.parametrize("seed", range(3))
def test_after_any_operations_with_all_bricks_up_the_copies_are_identical(
    seed: int, mode: str, options: Mapping[str, str]
) -> None:
    async def main() -> None:
        random_ = random.Random(seed)
        async with served(random_.choice([2, 3]), brick={"io-mode": mode}, **options) as volume:
            model = Model()
            for _ in range(60 if mode == "pool" else 200):
                await step(volume, model, random_)
            await holds(volume, model)
            await volume.replicate.drain()
            count = len(volume.bricks)
            assert [volume.all_marks(brick) for brick in range(count)] == [{}] * count
            trees = [volume.tree(brick) for brick in range(count)]
            assert all(tree == trees[0] for tree in trees)

    trio.run(main)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_acknowledged_is_lost_while_one_brick_fails_again_and_again(seed: int) -> None:
    async def main() -> None:
        random_ = random.Random(seed)
        count = random_.choice([2, 3])
        arbiter = {"arbiter_count": "1"} if count == 3 and random_.random() < 0.4 else {}
        hashed = {"choose_local": "off"} if random_.random() < 0.5 else {}
        victim = random_.randrange(count)
        async with served(count, **arbiter, **hashed) as volume:
            model = Model()
            for _ in range(150):
                await step(volume, model, random_)
                if random_.random() < 0.1:
                    brick = volume.bricks[victim]
                    await (brick.kill() if brick.up else brick.start())
                if random_.random() < 0.05:
                    await volume.remount(**arbiter, **hashed)
                if random_.random() < 0.1:
                    await holds(volume, model)
            await volume.bricks[victim].start()
            await holds(volume, model)
            # nobody is accused but the one that failed
            for brick in range(count):
                for path, blames in volume.all_marks(brick).items():
                    assert set(blames) <= {f"client-{victim}", "dirty"}, (seed, brick, path)
                    assert brick != victim or set(blames) == {"dirty"}, (seed, brick, path)

    trio.run(main)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_acknowledged_is_lost_when_the_whole_process_is_killed(seed: int) -> None:
    """With one brick down, marks not cleared yet, and all bricks back afterwards."""

    async def main() -> None:
        random_ = random.Random(seed)
        count = random_.choice([2, 3])
        victim = random_.randrange(count)
        async with served(count, choose_local="off", read_hash_mode="1") as volume:
            model = Model()
            for _ in range(60):
                await step(volume, model, random_)
            await volume.bricks[victim].kill()
            await crash(volume, model, random_)
            await holds(volume, model)

    trio.run(main)


async def crash(volume: Volume, model: Model, random_: random.Random) -> None:
    """Write to open files, then lose everything that is in memory."""
    for path, content in model.files.items():
        if content is not None:
            fd = await volume.open(path)
            data = random_.randbytes(max(1, len(content)))
            await volume.top.writev(volume.tick(), fd, data, 0)
            content[: len(data)] = data
    replicate = volume.replicate
    replicate.eager.clear()  # nobody will clear these marks
    for brick in volume.bricks:
        await brick.kill()
    for brick in volume.bricks:
        await brick.start()
    await volume.remount(choose_local="off", read_hash_mode="1")


@pytest.mark.parametrize("seed", range(30))
def test_a_copy_that_answers_errors_at_random_is_accused_and_never_believed(seed: int) -> None:
    """With debug/error-gen above one brick: every operation either succeeds or changes nothing that can be seen."""

    async def main() -> None:
        random_ = random.Random(seed)
        count = random_.choice([2, 3])
        victim = random_.randrange(count)
        async with served(count, layer="error-gen") as volume:
            for edge in volume.replicate.children:
                layer = edge.translator
                layer.opt.failure = 0.0
            model = Model()
            for _ in range(40):
                await step(volume, model, random_)
            flaky = volume.replicate.children[victim].translator
            flaky.opt.failure, flaky.opt.random_failure = 20.0, True
            flaky.opt.error_no = random_.choice([errno.EIO, errno.ENOSPC, errno.EROFS, errno.ENOTCONN])
            volume.graph.relink()
            for _ in range(100):
                await step(volume, model, random_)
            flaky.opt.failure = 0.0
            volume.graph.relink()
            await volume.remount()
            for edge in volume.replicate.children:
                edge.translator.opt.failure = 0.0
            volume.graph.relink()
            await holds(volume, model)

    try:
        trio.run(main)
    except FopError as error:
        raise AssertionError(f"seed {seed}: an operation failed though a good copy was there: {error}") from error


@pytest.mark.parametrize("seed", range(8))
def test_nothing_acknowledged_is_lost_when_a_brick_fails_in_the_middle_of_operations(seed: int) -> None:
    """The brick goes and comes while fops wait for their threads."""

    async def main() -> None:
        random_ = random.Random(seed)
        count = random_.choice([2, 3])
        victim = random_.randrange(count)
        async with served(count, brick={"io-mode": "pool"}, choose_local="off") as volume:
            model = Model()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(failing_again_and_again, volume, victim, random_)
                for _ in range(80):
                    await step(volume, model, random_)
                nursery.cancel_scope.cancel()
            await volume.bricks[victim].start()
            await holds(volume, model)
            for brick in range(count):
                for path, blames in volume.all_marks(brick).items():
                    assert set(blames) <= {f"client-{victim}", "dirty"}, (seed, brick, path)

    trio.run(main)


async def failing_again_and_again(volume: Volume, victim: int, random_: random.Random) -> None:
    while True:
        for _ in range(random_.randrange(30)):
            await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True):
            brick = volume.bricks[victim]
            await (brick.kill() if brick.up else brick.start())


@pytest.mark.parametrize("seed", range(6))
def test_clients_that_get_in_each_others_way_leave_the_copies_identical(seed: int) -> None:
    """Six at once on the same few names; whether one operation of them fails is for them to sort out."""

    async def client(volume: Volume, random_: random.Random) -> None:
        for _ in range(25):
            try:
                await step(volume, view(volume), random_)
            except FopError as error:
                assert error.errno in (errno.ENOENT, errno.EEXIST, errno.ESTALE, errno.ENOTEMPTY, errno.ENOTDIR), error

    def view(volume: Volume) -> Model:
        """What lies on the first brick right now, or hardly a moment ago."""
        model = Model()
        with suppress(FileNotFoundError):
            for path, shape in volume.tree(0).items():
                model.files[path] = bytearray(shape[-1]) if isinstance(shape[-1], bytes) else None
        return model

    async def main() -> None:
        async with served(2, brick={"io-mode": "pool"}) as volume:
            for folder in FOLDERS:
                await volume.mkdir(folder)
            async with trio.open_nursery() as nursery:
                for n in range(6):
                    nursery.start_soon(client, volume, random.Random(seed * 100 + n))
            await volume.replicate.drain()
            assert volume.all_marks(0) == volume.all_marks(1) == {}
            assert volume.tree(0) == volume.tree(1)

    trio.run(main)
