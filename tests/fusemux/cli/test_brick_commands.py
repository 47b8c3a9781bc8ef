"""`fusemux volume replace-brick|reset-brick|add-brick|remove-brick`, on a mounted volume and on one that is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusemux.cli.main import main
from fusemux.testing.copies import compare
from fusemux.testing.volume import Volume
from fusemux.volume.store import VolumeStore
from tests.fusemux.cli.conftest import Command, Done
from tests.mounting import Place

pytestmark = pytest.mark.mount

pair = pytest.mark.fusemux(replica=2, options={"cluster.quorum-type": "none"})
granular_or_not = pytest.mark.parametrize("granular", ["on", "off"])


def new(volume: Volume, name: str = "new") -> str:
    """Where a new brick may be: beside the others."""
    return str(volume.brick(0).path.parent / name)


def fill(folder: Path) -> None:
    (folder / "dir/sub").mkdir(parents=True)
    for name in ("file", "dir/file", "dir/sub/file"):
        (folder / name).write_bytes(name.encode() * 1000)
    os.symlink("file", folder / "link")
    os.link(folder / "file", folder / "dir/hard")
    os.setxattr(folder / "file", "user.kept", b"value")


def paths_of(volume: Volume) -> list[Path]:
    stored = VolumeStore(Path(volume.env["FUSEMUX_STATE_DIR"])).load(volume.name)
    return [Path(brick.path) for brick in stored.bricks]


def identical(volume: Volume) -> bool:
    """Also after a new mount with the definition as it is now."""
    volume.remount()
    alike = volume.bricks_identical()
    assert alike, alike
    return True


def done_well(done: Done) -> None:
    assert (done.status, done.err) == (0, "")


@contextmanager
def open_file(volume: Volume) -> Iterator[int]:
    """A file that stays open, is written to before and after what the block does, and read back."""
    fd = os.open(volume.path / "open", os.O_CREAT | os.O_RDWR)
    try:
        os.write(fd, b"before ")
        yield fd
        os.write(fd, b"after")
        assert os.pread(fd, 100, 0) == b"before after"
    finally:
        os.close(fd)


# -- mounted -------------------------------------------------------------------------------------------------------


@pair
@granular_or_not
def test_replace_brick_self_heal_on_a_mounted_volume(fusemux_volume: Volume, fusemux: Command, granular: str) -> None:
    """Files stay open and go on; the new brick heals by itself and is the volume's from now on."""
    set_granular(fusemux, granular)
    fill(fusemux_volume.path)
    with open_file(fusemux_volume):
        done_well(fusemux("volume", "replace-brick", "test", "1", new(fusemux_volume), "commit", "force"))
        (fusemux_volume.path / "made").write_bytes(b"after it")
    fusemux_volume.wait_healed()
    assert paths_of(fusemux_volume)[1] == Path(new(fusemux_volume))
    assert (Path(new(fusemux_volume)) / "dir/sub/file").read_bytes() == b"dir/sub/file" * 1000
    assert identical(fusemux_volume)
    assert f"Brick2: localhost:{new(fusemux_volume)}\n" in fusemux("volume", "info", "test").out


def set_granular(fusemux: Command, granular: str) -> None:
    done = fusemux("volume", "set", "test", "cluster.granular-entry-heal", granular)
    if done.status:  # where only the heal command may change it
        done = fusemux("volume", "heal", "test", "granular-entry-heal", "enable" if granular == "on" else "disable")
    assert done.status == 0, done


@pair
@granular_or_not
def test_add_brick_self_heal_on_a_mounted_volume(fusemux_volume: Volume, fusemux: Command, granular: str) -> None:
    set_granular(fusemux, granular)
    fill(fusemux_volume.path)
    with open_file(fusemux_volume) as fd:
        os.unlink(fusemux_volume.path / "open")  # it has no name by which a new copy could get it
        done = fusemux("volume", "add-brick", "test", "replica", "3", new(fusemux_volume))
        assert done.out.startswith("volume add-brick: test: success (Replicate, 1 x 3 = 3 bricks)\n")
        assert os.fstat(fd).st_nlink == 0
    fusemux_volume.wait_healed()
    (fusemux_volume.path / "made").write_bytes(b"by three")
    assert (Path(new(fusemux_volume)) / "made").read_bytes() == b"by three"
    assert identical(fusemux_volume)
    assert fusemux("volume", "info", "test", "--json").value["replica"] == 3


@pair
def test_a_directory_that_is_being_listed_goes_on_across_a_new_copy(fusemux_volume: Volume, fusemux: Command) -> None:
    names = {f"name{i:04}" for i in range(1000)}
    for name in names:
        (fusemux_volume.path / name).touch()
    with os.scandir(fusemux_volume.path) as listing:
        found = [next(listing).name for _ in range(10)]
        done_well(fusemux("volume", "add-brick", "test", "replica", "3", new(fusemux_volume)))
        found += [entry.name for entry in listing]
    assert len(found) == len(names)
    assert set(found) == names


@pytest.mark.fusemux(replica=3)
def test_copies_are_removed_and_files_stay_open(fusemux_volume: Volume, fusemux: Command) -> None:
    fill(fusemux_volume.path)
    left = str(fusemux_volume.brick(0).path)
    with open_file(fusemux_volume):
        done = fusemux("volume", "remove-brick", "test", "replica", "2", left, "force")
        assert f"what was removed stays as it is: {left}" in done.out
    (fusemux_volume.path / "made").write_bytes(b"by two")
    assert not (Path(left) / "made").exists()
    assert identical(fusemux_volume)
    # The numbers of those that stay are theirs for good, and a new one gets another.
    done_well(fusemux("volume", "add-brick", "test", "replica", "3", new(fusemux_volume)))
    fusemux_volume.wait_healed()
    stored = VolumeStore(Path(fusemux_volume.env["FUSEMUX_STATE_DIR"])).load("test")
    assert [stored.client(i) for i in range(3)] == ["test-client-1", "test-client-2", "test-client-3"]
    assert identical(fusemux_volume)


@pair
def test_whole_sets_are_added_to_a_mounted_volume(fusemux_volume: Volume, fusemux: Command) -> None:
    """What is there stays where it is; directories made from now on use the new set, too."""
    fill(fusemux_volume.path)
    with open_file(fusemux_volume):
        done = fusemux("volume", "add-brick", "test", new(fusemux_volume, "n0"), new(fusemux_volume, "n1"))
        assert "directories that are made from now on" in done.out
    (fusemux_volume.path / "dir/late").write_bytes(b"in an old directory")
    assert (fusemux_volume.brick(0).path / "dir/late").exists()
    (fusemux_volume.path / "fresh").mkdir()
    for i in range(32):
        (fusemux_volume.path / f"fresh/{i}").write_bytes(b"%d" % i)
    assert 0 < len(os.listdir(Path(new(fusemux_volume, "n0")) / "fresh")) < 32
    fusemux_volume.remount()
    assert (fusemux_volume.path / "dir/sub/file").read_bytes() == b"dir/sub/file" * 1000
    assert {(fusemux_volume.path / f"fresh/{i}").read_bytes() for i in range(32)} == {b"%d" % i for i in range(32)}
    assert len(os.listdir(fusemux_volume.path)) == 5
    shutil.rmtree(fusemux_volume.path / "fresh")


@pytest.mark.fusemux("2", mount_options=("entry-timeout=0", "attribute-timeout=0"))
def test_a_brick_is_added_to_a_distributed_volume(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "dir").mkdir()
    with open_file(fusemux_volume):
        done_well(fusemux("volume", "add-brick", "test", new(fusemux_volume)))
        (fusemux_volume.path / "dir/file").write_bytes(b"old directory")
    (fusemux_volume.path / "fresh").mkdir()
    for i in range(32):
        (fusemux_volume.path / f"fresh/{i}").touch()
    assert os.listdir(Path(new(fusemux_volume)) / "fresh") != []
    assert len(os.listdir(fusemux_volume.path / "fresh")) == 32


@pytest.mark.fusemux(replica=2, options={"cluster.quorum-type": "none"}, disk=True)
def test_copies_come_and_go_under_load_on_disks(fusemux_volume: Volume, fusemux: Command) -> None:
    """Where bricks wait for disks, calls are under way whenever the graph changes."""
    script = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i > f$((i % 50)) || exit 1; mkdir d$i && rmdir d$i || exit 2; done"
    load = subprocess.Popen(["sh", "-c", script], cwd=fusemux_volume.path)
    try:
        done_well(fusemux("volume", "add-brick", "test", "replica", "3", new(fusemux_volume)))
        fusemux_volume.wait_healed(within_s=30)
        done_well(fusemux("volume", "replace-brick", "test", "1", new(fusemux_volume, "other")))
        fusemux_volume.wait_healed(within_s=30)
        done_well(fusemux("volume", "remove-brick", "test", "replica", "2", "0", "force"))
        assert load.poll() is None
    finally:
        (fusemux_volume.path / "stop").touch()
        assert load.wait(30) == 0
    fusemux_volume.wait_healed(within_s=30)
    assert identical(fusemux_volume)


# -- resetting -----------------------------------------------------------------------------------------------------


@pytest.mark.fusemux(replica=3)
@pytest.mark.parametrize("twice", [False, True])
def test_a_brick_is_reset_with_an_empty_directory(fusemux_volume: Volume, fusemux: Command, twice: bool) -> None:
    fill(fusemux_volume.path)
    path = fusemux_volume.brick(1).path
    again = [f"localhost:{path}"] if twice else []
    with open_file(fusemux_volume):
        done = fusemux("volume", "reset-brick", "test", str(path), "start")
        assert f"then: fusemux volume reset-brick test {path} commit" in done.out
        (fusemux_volume.path / "meanwhile").write_bytes(b"missed")
        shutil.rmtree(path)
        done_well(fusemux("volume", "reset-brick", "test", str(path), *again, "commit", *(["force"] if twice else [])))
    fusemux_volume.wait_healed()
    assert (path / "meanwhile").read_bytes() == b"missed"
    assert identical(fusemux_volume)


@pytest.mark.fusemux(replica=3)
def test_a_brick_that_keeps_its_files_goes_on_with_them_by_force(fusemux_volume: Volume, fusemux: Command) -> None:
    """What was deleted while it was down does not come back."""
    fill(fusemux_volume.path)
    path = fusemux_volume.brick(1).path
    done_well(fusemux("volume", "reset-brick", "test", "1", "start"))
    (fusemux_volume.path / "dir/file").unlink()
    done = fusemux("volume", "reset-brick", "test", "1", "commit")
    assert done.err == (
        f"error: brick {path} still has its files; empty the directory to have everything healed onto it, or say 'commit force' "
        "to go on with what is there\n"
    )
    done_well(fusemux("volume", "reset-brick", "test", "1", "commit", "force"))
    fusemux_volume.wait_healed()
    assert not (path / "dir/file").exists()
    assert identical(fusemux_volume)


@pytest.mark.fusemux(replica=3)
def test_a_reset_in_the_wrong_order_says_the_right_one(fusemux_volume: Volume, fusemux: Command) -> None:
    path = fusemux_volume.brick(1).path
    done = fusemux("volume", "reset-brick", "test", "1", "commit")
    assert f"brick {path} is up; take it down first: fusemux volume reset-brick test {path} start" in done.err
    assert "after the brick stands 'start', 'commit' or 'commit force'" in fusemux(
        "volume", "reset-brick", "test", "1", "begin"
    ).err  # fmt: skip
    done_well(fusemux("volume", "reset-brick", "test", "1", "start"))
    done_well(fusemux("volume", "reset-brick", "test", "1", "start"))
    assert f"reset-brick test {path} commit" in fusemux("brick", "start", "test", "1").err
    assert "would be left" not in fusemux("volume", "reset-brick", "test", "2", "start").err
    done = fusemux("volume", "reset-brick", "test", "0", "start")
    assert "bring the others back first" in done.err or "is down; bring it back first" in done.err
    assert fusemux("volume", "reset-brick", "test", "2", "commit", "force").status == 0
    assert fusemux("volume", "reset-brick", "test", "1", "commit", "force").status == 0
    fusemux_volume.wait_healed()


# -- refused -------------------------------------------------------------------------------------------------------


@pair
def test_a_new_copy_needs_a_good_one_and_the_only_good_one_stays(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"old")
    bricks = [str(brick.path) for brick in fusemux_volume.bricks]
    where = new(fusemux_volume)
    before = fusemux("volume", "info", "test").out
    with fusemux_volume.brick(0).down():
        (fusemux_volume.path / "file").write_bytes(b"newer")
        done = fusemux("volume", "replace-brick", "test", bricks[1], where)
        assert f"{where} would have no good copy to be healed from: {bricks[0]} is down" in done.err
        assert "bring it back first" in done.err
    fusemux("volume", "set", "test", "cluster.self-heal-daemon", "off")
    fusemux_volume.brick(1).kill()
    (fusemux_volume.path / "only").write_bytes(b"here")
    fusemux_volume.brick(1).start()
    for words in (
        ["replace-brick", "test", bricks[0], where],
        ["reset-brick", "test", bricks[0], "start"],
    ):
        done = fusemux("volume", *words)
        assert f"{bricks[0]} has changes that the other copies have not got yet" in done.err, words
        assert "heal first: fusemux volume heal test" in done.err
    assert not os.path.exists(where)
    fusemux("volume", "heal", "test")
    done_well(fusemux("volume", "replace-brick", "test", bricks[0], where))
    fusemux("volume", "heal", "test")
    assert (Path(where) / "only").read_bytes() == b"here"
    assert before != fusemux("volume", "info", "test").out


@pair
def test_directories_that_cannot_be_new_copies(fusemux_volume: Volume, fusemux: Command) -> None:
    (fusemux_volume.path / "file").write_bytes(b"data")
    full = Path(new(fusemux_volume, "full"))
    full.mkdir()
    (full / "something").touch()
    bricks = [str(brick.path) for brick in fusemux_volume.bricks]
    for where, problem in (
        (str(full), "is not empty; a copy begins with an empty directory"),
        (bricks[1], f"has the brick {bricks[1]} already"),
        (bricks[1] + "/inside", "lies inside brick"),
        ("elsewhere", "'elsewhere' is neither a directory nor a word of volume replace-brick"),
        ("otherhost:/b", "only bricks of this machine can be used"),
    ):
        done = fusemux("volume", "replace-brick", "test", "0", where, "commit", "force")
        assert (done.status, problem in done.err) == (1, True), done
    done_well(fusemux("volume", "replace-brick", "test", "0", new(fusemux_volume)))
    done = fusemux("volume", "replace-brick", "test", "0", bricks[0])
    assert "was a brick of this volume before" in done.err or "is not empty" in done.err
    assert fusemux("volume", "replace-brick", "test", "7", "/x").err.startswith("error: volume 'test' has no brick 7")
    assert "there is no volume 'tset', did you mean 'test'" in fusemux("volume", "add-brick", "tset", "/x").err


@pytest.mark.fusemux("1")
def test_a_volume_without_copies_gets_none_while_it_is_mounted(fusemux_volume: Volume, fusemux: Command) -> None:
    fill(fusemux_volume.path)
    done = fusemux("volume", "add-brick", "test", "replica", "2", new(fusemux_volume))
    assert "has no copies yet" in done.err
    assert "unmount it to make copies" in done.err
    assert (
        "is not replicated: nobody has a copy"
        in fusemux("volume", "replace-brick", "test", "0", new(fusemux_volume)).err
    )
    assert "is not replicated: nobody has a copy" in fusemux("volume", "reset-brick", "test", "0", "start").err


# -- not mounted -----------------------------------------------------------------------------------------------------


class Stored:
    """A volume of a test that is mounted only now and then."""

    def __init__(self, place: Place, *words: str) -> None:
        self.place = place
        self.bricks = place.root / "bricks"
        self.bricks.mkdir()
        self("create", *words)

    def at(self, brick: str) -> Path:
        return self.bricks / brick

    def __call__(self, command: str, *words: str, status: int = 0) -> str:
        """`fusemux volume COMMAND web ...`, where words that begin with a slash are bricks."""
        given = [f"{self.bricks}{word}" if word.startswith("/") else word for word in words]
        done = self.place.run(sys.executable, "-m", "fusemux", "volume", command, "web", *given, check=False)
        assert done.returncode == status, done
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        where = self.place.mount("web")
        try:
            yield where
        finally:
            self.place.umount(where)

    def wait_healed(self) -> None:
        while '"total": 0' not in (text := self("heal", "info", "summary", "--json")) or self.pending(text):
            self("heal")

    @staticmethod
    def pending(text: str) -> bool:
        return any(row["total"] for row in json.loads(text))

    def identical(self, *bricks: str, arbiter: bool = False) -> bool:
        alike = compare([([self.at(brick) for brick in bricks], arbiter)])
        assert alike, alike
        return True


def test_bricks_change_while_the_volume_is_not_mounted(volume_place: Place) -> None:
    """The marks are the same: at the next mount everything is healed onto the new bricks."""
    web = Stored(volume_place, "replica", "2", "/b0", "/b1")
    with web.mounted() as where:
        fill(where)
    web("replace-brick", "/b1", "/n1")
    web("add-brick", "replica", "3", "/n2")
    refused = web("replace-brick", "/b0", "/n0", status=1)
    assert "/b0 has changes that the other copies have not got yet" in refused or "is not healed itself" in refused
    with web.mounted():
        web.wait_healed()
    shutil.rmtree(web.at("b0"))  # its disk is lost
    web("reset-brick", "/b0", "commit")
    assert "it is not served, nothing to do" in web("reset-brick", "/b0", "start")
    assert "Number of Bricks: 1 x 3 = 3" in web("info")
    with web.mounted() as where:
        assert (where / "dir/sub/file").read_bytes() == b"dir/sub/file" * 1000
        web.wait_healed()
    assert web.identical("b0", "n1", "n2")
    web("remove-brick", "replica", "2", "/n1", "force")
    with web.mounted() as where:
        (where / "later").write_bytes(b"by two")
    assert web.identical("b0", "n2")
    assert not (web.at("n1") / "later").exists()


def test_the_only_good_copy_is_not_given_up_for_new_ones_that_are_not_healed_yet(volume_place: Place) -> None:
    web = Stored(volume_place, "replica", "2", "/b0", "/b1")
    with web.mounted() as where:
        fill(where)
    web("replace-brick", "/b1", "/n1")
    kept = web.at("b0").rename(web.at("moved"))
    web.at("b0").mkdir()
    refused = web("reset-brick", "/b0", "commit", status=1)
    assert "/n1 is not healed itself; heal first: fusemux volume heal web" in refused
    web.at("b0").rmdir()
    kept.rename(web.at("b0"))
    with web.mounted():
        web.wait_healed()
    assert web.identical("b0", "n1")


def test_a_volume_without_copies_gets_them_while_it_is_not_mounted(volume_place: Place) -> None:
    web = Stored(volume_place, "/b0")
    with web.mounted() as where:
        fill(where)
    web("add-brick", "replica", "2", "/b1")
    with web.mounted() as where:
        web.wait_healed()
        assert (where / "file").read_bytes() == b"file" * 1000
    assert web.identical("b0", "b1")


def test_a_ramdisk_is_made_for_a_new_brick_and_removed_with_it(volume_place: Place) -> None:
    web = Stored(volume_place, "replica", "2", "/b0", "ramdisk:64M")
    ramdisks = volume_place.root / "run/ramdisks/web"
    with web.mounted() as where:
        fill(where)
        web("replace-brick", "1", "ramdisk:32M")
        web.wait_healed()
        (ramdisk,) = ramdisks.iterdir()
        assert (ramdisk / "file").read_bytes() == b"file" * 1000
        web("add-brick", "replica", "3", "ramdisk:32M")
        assert len(list(ramdisks.iterdir())) == 2
        web("remove-brick", "replica", "2", "1", "force")
        assert ramdisk not in ramdisks.iterdir()
    web("delete", "--yes")
    assert not ramdisks.exists()


# -- arbiters ------------------------------------------------------------------------------------------------------


def test_arbiter_add_brick(volume_place: Place) -> None:
    """Two copies with heals pending get an arbiter, and then a second set with one."""
    web = Stored(volume_place, "replica", "2", "/b0", "/b1")
    web("set", "cluster.self-heal-daemon", "off")
    with web.mounted() as where:
        fill(where)
        volume_place.run(sys.executable, "-m", "fusemux", "brick", "kill", "web", "0")
        (where / "file").write_bytes(b"changed")
        (where / "dir/new").write_bytes(b"new")
        volume_place.run(sys.executable, "-m", "fusemux", "brick", "start", "web", "0")
        assert "1 bricks, got 2" in web("add-brick", "replica", "3", "arbiter", "1", "/a", "/b", status=1)
        assert "not 2 to 2" in web("add-brick", "replica", "3", "arbiter", "2", "/a", status=1)
        web("add-brick", "replica", "3", "arbiter", "1", "/a0")
        assert "1 x (2 + 1) = 3" in web("info")
        web("set", "cluster.self-heal-daemon", "on")
        web.wait_healed()
        assert [len((where / name).read_bytes()) for name in ("file", "dir/new", "dir/file")] == [7, 3, 8000]
        sizes = {(web.at("a0") / name).stat().st_size for name in ("file", "dir/new", "dir/file", "dir/sub/file")}
        assert sizes == {0}
        assert "the count of such a volume cannot be raised" in web("add-brick", "replica", "4", "/x", status=1)
        assert "3, 6, ... bricks can be added, got 1" in web("add-brick", "/x", status=1)
        web("add-brick", "replica", "3", "arbiter", "1", "/b2", "/b3", "/a1")
        assert "2 x (2 + 1) = 6" in web("info")
        (where / "fresh").mkdir()
        for i in range(16):
            (where / f"fresh/{i}").write_bytes(b"content")
        assert {file.stat().st_size for file in (web.at("a1") / "fresh").iterdir()} == {0}
        assert {file.stat().st_size for file in (web.at("b2") / "fresh").iterdir()} == {7}
    assert web.identical("b0", "b1", "a0", arbiter=True)
    assert web.identical("b2", "b3", "a1", arbiter=True)


def test_arbiter_remove_brick(volume_place: Place) -> None:
    web = Stored(volume_place, "replica", "3", "arbiter", "1", "/b0", "/b1", "/a0")
    with web.mounted() as where:
        fill(where)
        assert "holds data; write 'replica 2" in web("remove-brick", "replica", "2", "/b0", "force", status=1)
        assert "only the arbiter can be removed" in web("remove-brick", "replica", "1", "/a0", "/b0", "force", status=1)
        web("remove-brick", "replica", "2", "/a0", "force")
        assert "1 x 2 = 2" in web("info")
        (where / "after").write_bytes(b"full")
    for brick in ("b0", "b1"):
        assert (web.at(brick) / "after").read_bytes() == b"full"
    assert not (web.at("a0") / "after").exists()
    assert web.identical("b0", "b1")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("arbiter 1 /b0 /b1 /b2", "'arbiter' needs 'replica' before it"),
        ("arbiter 1 replica 3 /b0 /b1 /b2", "for an arbiter configuration there must be|'arbiter' needs|success"),
        ("replica 3 arbiter 2 /b0 /b1 /b2", "there must be 2 data copies and 1 arbiter"),
        ("replica 4 arbiter 1 /b0 /b1 /b2 /b3", "there must be 2 data copies and 1 arbiter"),
        ("replica 3 arbiter 1 /b0 /b1", "replica 3 needs 3, 6, 9"),
        ("replica 2 arbiter 1 /b0 /b1 /b2", "success (Replicate, 1 x (2 + 1) = 3 bricks)"),
        ("replica 3 arbiter 1 /b0 /b1 /b2", "success (Replicate, 1 x (2 + 1) = 3 bricks)"),
    ],
)
def test_arbiter_cli(
    words: str, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Which ways to ask for an arbiter are understood."""
    monkeypatch.setenv("FUSEMUX_STATE_DIR", str(tmp_path / "state"))
    status = main(["volume", "create", "web", *(word.replace("/", f"{tmp_path}/") for word in words.split())])
    shown = "".join(capsys.readouterr())
    assert any(text in shown for text in answer.split("|"))
    assert (status == 0) == ("success" in shown)
