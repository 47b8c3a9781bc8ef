"""The text of GlusterFS's volume store: `info`, and one file for each brick.

Both are lines of `key=value`.  `info` holds the counts and identities in a fixed order, then the volume's options,
then `brick-N=HOST:-path-with-dashes`, which is the name of the brick's own file (`bricks/HOST:-path-with-dashes`), where the
path stands in full.  Keys that mean nothing here are kept and written back.  Ours: `fusemux-ramdisk` in a brick's file.

Source: files written by GlusterFS 10.3.  Pure: no file is opened here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from fusemux.volume.definition import BrickSpec, Status, Volume, VolumeError, VolumeType, stored_name, validate

__all__ = ["StoredBrick", "brick_files", "brick_text", "brick_value", "info_text", "read_info", "read_lines"]

_FIXED = (
    "type", "count", "status", "sub_count", "replica_count", "arbiter_count", "disperse_count", "redundancy_count",
    "version", "transport-type", "volume-id", "username", "password",
)  # fmt: skip
# What follows in a file that GlusterFS wrote; kept when read, these values when new.
_TRAILER = {
    "op-version": "40000",
    "client-op-version": "2",
    "quota-version": "0",
    "tier-enabled": "0",
    "parent_volname": "N/A",
    "restored_from_snap": "00000000-0000-0000-0000-000000000000",
    "snap-max-hard-limit": "256",
}
_CLIENT_OP_VERSION = {VolumeType.DISTRIBUTE: "2", VolumeType.REPLICATE: "30800", VolumeType.DISPERSE: "30600"}


class StoredBrick(NamedTuple):
    """A brick's file: `number` is the N of its VOL-client-N, None where that is not told."""

    spec: BrickSpec
    number: int | None


def read_lines(text: str, source: str) -> dict[str, str]:
    """The keys and values of a store file.  Raises VolumeError with the line."""
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals or not key:
            raise VolumeError(f"{source}, line {number}: expected key=value, found {line[:60]!r}; the file is damaged")
        if key in values:
            raise VolumeError(f"{source}, line {number}: {key!r} stands there twice; the file is damaged")
        values[key] = value
    return values


def info_text(volume: Volume) -> str:
    """The `info` file of `volume`."""
    lines = {
        "type": str(int(volume.type)),
        "count": str(len(volume.bricks)),
        "status": str(int(volume.status)),
        "sub_count": str(volume.set_size if volume.set_size > 1 else 0),
        "replica_count": str(volume.replica),
        **({"arbiter_count": str(volume.arbiter)} if volume.arbiter else {}),
        "disperse_count": str(volume.disperse),
        "redundancy_count": str(volume.redundancy),
        "version": str(volume.version),
        "transport-type": "0",
        "volume-id": str(volume.id),
        "username": volume.username,
        "password": volume.password,
        **_TRAILER,
        "client-op-version": _CLIENT_OP_VERSION[volume.type],
    }
    lines |= {**volume.extra, **volume.options}
    lines |= {f"brick-{i}": stored_name(brick) for i, brick in enumerate(volume.bricks)}
    for key, value in lines.items():
        if "\n" in value or "\n" in key or "=" in key:
            raise VolumeError(f"volume {volume.name!r}: {key}={value!r} cannot be stored")
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def read_info(name: str, text: str, source: str, bricks: Mapping[str, StoredBrick]) -> Volume:
    """The definition in an `info` file; `bricks` leads from stored names to bricks.  Raises VolumeError."""
    values = read_lines(text, source)
    fields = _Fields(values, source)
    count = fields.number("count")
    stored = [_brick(fields, bricks, i) for i in range(count)]
    numbers = tuple(i if brick.number is None else brick.number for i, brick in enumerate(stored))
    leftover = {k: v for k, v in values.items() if k not in _FIXED and not k.startswith("brick-")}
    volume = Volume(
        name,
        tuple(brick.spec for brick in stored),
        replica=max(1, fields.number("replica_count")),
        arbiter=fields.number("arbiter_count", 0),
        disperse=fields.number("disperse_count", 0),
        redundancy=fields.number("redundancy_count", 0),
        options={k: v for k, v in leftover.items() if "." in k},
        id=fields.uuid("volume-id"),
        username=fields.text("username"),
        password=fields.text("password"),
        status=fields.status(),
        version=fields.number("version", 1),
        numbers=() if numbers == tuple(range(count)) else numbers,
        extra={k: v for k, v in leftover.items() if "." not in k},
    )
    if fields.number("type") != volume.type:
        raise VolumeError(f"{source}: type={values['type']} does not go with the counts; the file is damaged")
    try:
        validate(volume)
    except VolumeError as error:
        raise VolumeError(f"{source}: {error}") from None
    return volume


def _brick(fields: _Fields, bricks: Mapping[str, StoredBrick], index: int) -> StoredBrick:
    stored = fields.text(f"brick-{index}")
    if stored not in bricks:
        raise VolumeError(f"{fields.source}: brick-{index} is {stored!r}, but there is no file bricks/{stored}")
    return bricks[stored]


class _Fields:
    """The values of one file, with errors that name it."""

    def __init__(self, values: Mapping[str, str], source: str) -> None:
        self.values = values
        self.source = source

    def text(self, key: str) -> str:
        if key not in self.values:
            raise VolumeError(f"{self.source}: {key!r} is missing; the file is damaged")
        return self.values[key]

    def number(self, key: str, default: int | None = None) -> int:
        if default is not None and key not in self.values:
            return default
        text = self.text(key)
        if not (text.isascii() and text.isdigit()):
            raise VolumeError(f"{self.source}: {key}={text[:40]} should be a number; the file is damaged")
        return int(text)

    def uuid(self, key: str) -> UUID:
        try:
            return UUID(self.text(key))
        except ValueError:
            raise VolumeError(f"{self.source}: {key}={self.text(key)[:60]} is no UUID; the file is damaged") from None

    def status(self) -> Status:
        try:
            return Status(self.number("status"))
        except ValueError:
            raise VolumeError(f"{self.source}: status={self.text('status')} is unknown; the file is damaged") from None


def brick_text(volume: Volume, index: int) -> str:
    """The file of one brick."""
    brick = volume.bricks[index]
    lines = {
        "hostname": brick.host,
        "path": brick.path,
        "real_path": brick.path,
        "listen-port": "0",
        "rdma.listen-port": "0",
        "decommissioned": "0",
        "brick-id": volume.client(index),
        "mount_dir": "/" + brick.path.rsplit("/", 1)[-1],
        "snap-status": "0",
        "brick-fsid": "0",
        **({} if brick.ramdisk_bytes is None else {"fusemux-ramdisk": str(brick.ramdisk_bytes)}),
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def brick_value(text: str, source: str) -> StoredBrick:
    """The brick in a brick's file.  Raises VolumeError."""
    fields = _Fields(read_lines(text, source), source)
    size = fields.number("fusemux-ramdisk") if "fusemux-ramdisk" in fields.values else None
    number = fields.values.get("brick-id", "").rpartition("-client-")[2]
    spec = BrickSpec(fields.text("path"), size, fields.text("hostname"))
    return StoredBrick(spec, int(number) if number.isascii() and number.isdigit() else None)


def brick_files(volume: Volume) -> dict[str, str]:
    """Name and text of every file below `bricks/`."""
    return {stored_name(brick): brick_text(volume, i) for i, brick in enumerate(volume.bricks)}
