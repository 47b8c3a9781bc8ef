"""mount(8), fstab(5) and libfuse's mount.fuse3 call mount.fusemux; each script sees a namespace of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.fusemux.private import leftovers, needs_namespace, run_private
from tests.mounting import Place

pytestmark = [pytest.mark.mount, needs_namespace]


@pytest.mark.parametrize("fstype", ["fusemux", "fuse.fusemux"])
def test_mount_t_mounts_and_umount_unmounts(volume_place: Place, fstype: str) -> None:
    done = run_private(
        volume_place,
        f"""
        with_helpers; mkdir $BASE/mnt
        mount -t {fstype} -o nosuid,_netdev,x-test=1 replica=2,size=64M $BASE/mnt
        echo hello > $BASE/mnt/file; cat $BASE/mnt/file
        findmnt -n -o SOURCE,FSTYPE,OPTIONS $BASE/mnt
        umount $BASE/mnt
        """,
    )
    lines = done.stdout.splitlines()
    assert lines[-2] == "hello"
    source, found, options = lines[-1].split()
    assert (source, found) == ("replica=2,size=64M", "fuse.fusemux")
    assert "nosuid" in options.split(",")
    volume_place.wait_ended()
    assert leftovers(volume_place) == []


def test_fstab_entries_are_mounted_by_their_directory_and_all_together(volume_place: Place) -> None:
    done = run_private(
        volume_place,
        """
        with_helpers; mkdir "$BASE/a" "$BASE/b c" "$BASE/d"
        cat > $BASE/fstab <<END
1     $BASE/a         fusemux       defaults,_netdev,nofail,x-systemd.automount   0 0
2x2   $BASE/b\\040c   fuse.fusemux  ro,noauto,comment=later                       0 0
1     $BASE/d         fusemux       users,noatime                                 0 0
END
        mount -T $BASE/fstab -a
        mount -T $BASE/fstab "$BASE/b c"
        for place in "$BASE/a" "$BASE/b c" "$BASE/d"; do findmnt -n -o OPTIONS "$place"; done
        umount "$BASE/a" "$BASE/b c" "$BASE/d"
        """,
    )
    a, b, d = (line.split(",") for line in done.stdout.splitlines()[-3:])
    assert a[0] == "rw"
    assert b[0] == "ro"
    assert {"noatime", "nosuid", "nodev", "noexec"} <= set(d)
    volume_place.wait_ended()


def test_remount_through_mount8(volume_place: Place) -> None:
    done = run_private(
        volume_place,
        """
        with_helpers; mkdir $BASE/mnt
        mount -t fusemux 1 $BASE/mnt
        mount -o remount,ro $BASE/mnt
        touch $BASE/mnt/file 2>&1 || true
        mount -o remount,rw $BASE/mnt; touch $BASE/mnt/file; ls $BASE/mnt
        umount $BASE/mnt
        """,
    )
    assert "Read-only file system" in done.stdout
    assert done.stdout.endswith("file\n")
    volume_place.wait_ended()


def test_a_failure_reaches_the_caller_of_mount8(volume_place: Place) -> None:
    done = run_private(volume_place, "with_helpers; mkdir $BASE/mnt; mount -t fusemux nosuch $BASE/mnt", check=False)
    assert done.returncode == 1
    assert "there is no volume 'nosuch'" in done.stderr


@pytest.mark.skipif(shutil.which("mount.fuse3") is None, reason="libfuse's mount.fuse3 is not installed")
def test_libfuse_calls_the_command_line_in_its_own_way(volume_place: Place) -> None:
    """Without our helper, `mount -t fuse.fusemux` ends in mount.fuse3, which runs `fusemux SPEC DIR -o ...`."""
    done = run_private(
        volume_place,
        """
        mkdir $BASE/mnt $BASE/bin
        sed 's/-m fusemux.mount/-m fusemux/' $BASE/mount.fusemux > $BASE/bin/fusemux; chmod +x $BASE/bin/fusemux
        PATH=$BASE/bin:$PATH mount.fuse3 2x2 $BASE/mnt -o rw,dev,suid -t fuse.fusemux
        echo hello > $BASE/mnt/file; cat $BASE/mnt/file
        umount $BASE/mnt
        """,
    )
    assert done.stdout == "hello\n"
    volume_place.wait_ended()


def test_a_missing_dev_fuse_is_named_with_the_way_out(volume_place: Place) -> None:
    done = run_private(volume_place, "without_dev_fuse; mkdir $BASE/mnt; $MOUNT 1 $BASE/mnt", check=False)
    assert done.returncode == 32
    assert "there is no /dev/fuse; load the module (modprobe fuse)" in done.stderr
    assert leftovers(volume_place) == []


def test_a_dev_fuse_that_is_something_else_is_named(volume_place: Place) -> None:
    script = "touch $BASE/file; mount --bind $BASE/file /dev/fuse; mkdir $BASE/mnt; $MOUNT 1 $BASE/mnt"
    done = run_private(volume_place, script, check=False)
    assert done.returncode == 32
    assert "/dev/fuse is no character device" in done.stderr


# -- ordinary users ------------------------------------------------------------------------------------------------


def owned(place: Place) -> None:
    os.chown(place.root, 65534, 65534)


def test_an_ordinary_user_mounts_and_unmounts(volume_place: Place) -> None:
    owned(volume_place)
    done = run_private(
        volume_place,
        """
        dev_fuse_for_all
        as_nobody sh -euc "
            mkdir $BASE/mnt; $MOUNT 2x2 $BASE/mnt; echo hello > $BASE/mnt/file; cat $BASE/mnt/file
            stat -c '%U' $BASE/mnt/file; $FUSEMUX status --json | grep -c '\\"up\\": true'; $FUSEMUX umount $BASE/mnt"
        """,
    )
    assert done.stdout.split() == ["hello", "nobody", "4"]
    volume_place.wait_ended()
    assert leftovers(volume_place) == []
    assert not list(Path("/dev/shm").glob("fusemux-65534-*"))


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ("PATH=/nonexistent $MOUNT 1 $BASE/mnt", 32, "install the package fuse3"),
        ("$MOUNT 1 $BASE/mnt -o allow_other", 1, "needs the line 'user_allow_other' in /etc/fuse.conf"),
        ("$MOUNT 1 /usr", 1, "you may not write to it"),
        ("$FUSEMUX install-helper --target /bin/true", 1, "run this as root"),
    ],
)
def test_what_an_ordinary_user_lacks_is_said(volume_place: Place, script: str, status: int, message: str) -> None:
    owned(volume_place)
    done = run_private(
        volume_place,
        f"dev_fuse_for_all; mkdir $BASE/mnt; chown 65534 $BASE/mnt; mount --bind /dev/null /etc/fuse.conf;"
        f'as_nobody sh -c "{script}"',
        check=False,
    )
    assert message in done.stderr
    assert done.returncode == status


def test_a_dev_fuse_that_may_not_be_opened_is_named(volume_place: Place) -> None:
    owned(volume_place)
    script = 'dev_fuse_for_all; chmod 600 /dev/fuse; as_nobody sh -c "mkdir $BASE/mnt; $MOUNT 1 $BASE/mnt"'
    done = run_private(volume_place, script, check=False)
    assert "/dev/fuse may not be opened by this user; become root" in done.stderr
    assert done.returncode == 1
