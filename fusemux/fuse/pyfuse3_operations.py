"""pyfuse3's operations, answered by the bridges of the mounted volumes.

Each operation is a coroutine that is driven here (`_served`): nearly always it runs to its end at once.  Only when it
suspends is the loop told to let another task read requests.  `FopError` becomes `FUSEError` there and nowhere else; anything
unexpected becomes EIO for that request and is logged once with the call.

pyfuse3 does not say who reads, writes, flushes and releases: that is taken to be whoever opened the file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, ReaddirToken, RequestContext, SetattrFields, StatvfsData

from fusemux.fuse.nodes import ROOT_ID
from fusemux.fuse.pyfuse3_served import ServedOperations, frame_of, served
from fusemux.fuse.pyfuse3_volume import Pyfuse3Volume
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.types import DirEntry, Frame, Iatt, SetAttr, StatVfs

__all__ = ["Pyfuse3Operations"]

_CAPABILITY = b"security.capability"


class Pyfuse3Operations(ServedOperations):
    # -- names -----------------------------------------------------------------------------------------------

    @served
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if self.many and parent_inode == ROOT_ID:
            return await self._lookup_volume(name, ctx)
        volume, parent = self.routes.node(parent_inode)
        try:
            nodeid, iatt = await volume.bridge.lookup(frame_of(ctx), parent, name)
        except FopError as error:
            if error.errno == errno.ENOENT and volume.absent is not None:
                return volume.absent
            raise
        return volume.attributes(nodeid, self.routes.show(volume, nodeid), iatt)

    async def _lookup_volume(self, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """A volume's root, by its index in the directory above all of them."""
        if not name.isdigit() or int(name) >= len(self.routes.volumes):
            raise FopError(errno.ENOENT)
        volume = self.routes.volumes[int(name)]
        iatt = await volume.bridge.getattr(frame_of(ctx), ROOT_ID)
        return volume.attributes(ROOT_ID, volume.root, iatt)

    def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:  # type: ignore[override]
        """Plain: it has nothing to wait for."""
        for shown, nlookup in inode_list:
            try:
                volume, nodeid = self.routes.node(shown)
            except FopError:
                continue
            self.routes.forget(shown, nlookup)
            volume.forgotten(nodeid)

    def _made(self, volume: Pyfuse3Volume, made: tuple[int, Iatt]) -> EntryAttributes:
        nodeid, iatt = made
        return volume.attributes(nodeid, self.routes.show(volume, nodeid), iatt)

    @served
    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        volume, parent = self.routes.node(parent_inode)
        return self._made(volume, await volume.bridge.mknod(frame_of(ctx), parent, name, mode, rdev))

    @served
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        volume, parent = self.routes.node(parent_inode)
        return self._made(volume, await volume.bridge.mkdir(frame_of(ctx), parent, name, mode))

    @served
    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        volume, parent = self.routes.node(parent_inode)
        return self._made(volume, await volume.bridge.symlink(frame_of(ctx), parent, name, target))

    @served
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        (volume, nodeid), (other, parent) = self.routes.node(inode), self.routes.node(new_parent_inode)
        if volume is not other:
            raise FopError(errno.EXDEV)
        return self._made(volume, await volume.bridge.link(frame_of(ctx), nodeid, parent, new_name))

    @served
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        volume, parent = self.routes.node(parent_inode)
        await volume.bridge.unlink(frame_of(ctx), parent, name)

    @served
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        volume, parent = self.routes.node(parent_inode)
        await volume.bridge.rmdir(frame_of(ctx), parent, name)

    @served
    async def rename(
        self, parent_inode_old: int, name_old: bytes, parent_inode_new: int, name_new: bytes, flags: int,
        ctx: RequestContext,
    ) -> None:  # fmt: skip
        (volume, old), (other, new) = self.routes.node(parent_inode_old), self.routes.node(parent_inode_new)
        if volume is not other:
            raise FopError(errno.EXDEV)
        await volume.bridge.rename(frame_of(ctx), old, name_old, new, name_new, flags)

    # -- attributes ------------------------------------------------------------------------------------------

    @served
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        if self.many and inode == ROOT_ID:
            return self._top()
        volume, nodeid = self.routes.node(inode)
        return volume.attributes(nodeid, inode, await volume.bridge.getattr(frame_of(ctx), nodeid))

    @staticmethod
    def _top() -> EntryAttributes:
        """The directory above all volumes, which is only there to mount them from."""
        entry = EntryAttributes()
        entry.st_ino = ROOT_ID
        entry.st_mode = stat.S_IFDIR | 0o700
        entry.st_nlink = 2
        return entry

    @served
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        volume, nodeid = self.routes.node(inode)
        size = attr.st_size if fields.update_size else None
        attrs = SetAttr(
            attr.st_mode & 0o7777 if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_atime_ns if fields.update_atime else None,
            attr.st_mtime_ns if fields.update_mtime else None,
            attr.st_ctime_ns if fields.update_ctime else None,
        )
        frame = frame_of(ctx)
        if nodeid in volume.privileged and (
            attrs.uid is not None or attrs.gid is not None or (size is not None and ctx.uid)
        ):
            attrs = await volume.unprivileged(frame, nodeid, attrs)
        handle = 0 if fh is None else self.routes.handle(fh)[1]
        return volume.attributes(nodeid, inode, await volume.bridge.setattr(frame, nodeid, handle, size, attrs))

    @served
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        volume, nodeid = self.routes.node(inode)
        return await volume.bridge.readlink(frame_of(ctx), nodeid)

    @served
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        volume, nodeid = self.routes.node(inode)
        await volume.bridge.access(frame_of(ctx), nodeid, mode)
        return True

    @served
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """pyfuse3 does not say of which node: of several volumes the one with the least space answers for all."""
        frame = frame_of(ctx)
        spaces = [await volume.bridge.statfs(frame, ROOT_ID) for volume in self.routes.volumes]
        space: StatVfs = min(spaces, key=lambda space: space.bavail * space.frsize)
        data = StatvfsData()
        for name, value in space._asdict().items():
            setattr(data, f"f_{name}", value)
        return data

    # -- open files ------------------------------------------------------------------------------------------

    def _info(self, volume: Pyfuse3Volume, fh: int) -> FileInfo:
        volume.info.fh = self.routes.show_handle(volume, fh)
        return volume.info

    @served
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        volume, parent = self.routes.node(parent_inode)
        nodeid, iatt, fh = await volume.bridge.create(frame_of(ctx), parent, name, flags, mode)
        if not iatt.size:
            volume.made(nodeid)
        return self._info(volume, fh), volume.attributes(nodeid, self.routes.show(volume, nodeid), iatt)

    @served
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        volume, nodeid = self.routes.node(inode)
        frame = frame_of(ctx)
        fh = await volume.bridge.open(frame, nodeid, flags)
        if flags & os.O_TRUNC and volume.privileged and frame.uid:
            await self._drop_privileges(volume, frame, nodeid)
        return self._info(volume, fh)

    @served
    async def read(self, fh: int, off: int, size: int) -> bytes:
        volume, handle = self.routes.handle(fh)
        data: bytes = await volume.bridge.read(volume.bridge.opener(handle), handle, off, size)
        return data

    @served
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        volume, handle = self.routes.handle(fh)
        frame = volume.bridge.opener(handle)
        if volume.privileged and frame.uid and handle in volume.bridge.files:
            await self._drop_privileges(volume, frame, volume.bridge.files[handle].nodeid)
        return await volume.bridge.write(frame, handle, off, buf)

    async def _drop_privileges(self, volume: Pyfuse3Volume, frame: Frame, nodeid: int) -> None:
        """An ordinary user writes: setuid and setgid go, and the kernel hears of it."""
        if nodeid in volume.privileged:
            attrs = await volume.unprivileged(frame, nodeid, SetAttr())
            if attrs.mode is not None:
                await volume.bridge.setattr(frame, nodeid, 0, None, attrs)
                pyfuse3.invalidate_inode(self.routes.show(volume, nodeid), attr_only=True)

    @served
    async def flush(self, fh: int) -> None:
        volume, handle = self.routes.handle(fh)
        await volume.bridge.flush(volume.bridge.opener(handle), handle)

    @served
    async def release(self, fh: int) -> None:
        volume, handle = self.routes.handle(fh)
        await volume.bridge.release(volume.bridge.opener(handle), handle)

    @served
    async def fsync(self, fh: int, datasync: bool) -> None:
        volume, handle = self.routes.handle(fh)
        await volume.bridge.fsync(volume.bridge.opener(handle), handle, datasync)

    # -- directories -----------------------------------------------------------------------------------------

    @served
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        volume, nodeid = self.routes.node(inode)
        return self.routes.show_handle(volume, await volume.bridge.opendir(frame_of(ctx), nodeid))

    @served
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """As many entries as the reply holds.  How many that is shows only when one is refused."""
        volume, handle = self.routes.handle(fh)
        frame = Frame()
        wanted, taken = self.usual_count + 1, 0
        while True:
            entries = await volume.bridge.readdirplus(frame, handle, start_id, wanted)
            for entry in entries:
                if not await self._put(volume, frame, handle, entry, token):
                    self.usual_count = max(taken, 1)
                    return
                taken += 1
            if not entries:
                return
            start_id, wanted = entries[-1].offset, 16

    async def _put(
        self, volume: Pyfuse3Volume, frame: Frame, handle: int, entry: DirEntry, token: ReaddirToken
    ) -> bool:
        """Put an entry into the reply; False when it does not fit any more."""
        if entry.iatt is not None:
            nodeid, iatt = volume.bridge.entered(entry, handle), entry.iatt
        elif entry.name in (b".", b".."):
            self.dot.st_ino = self.routes.show(volume, entry.ino)
            return pyfuse3.readdir_reply(token, entry.name, self.dot, entry.offset)
        else:
            try:
                parent = volume.bridge.directories[handle].nodeid
                nodeid, iatt = await volume.bridge.lookup(frame, parent, entry.name)
            except FopError:
                return True  # it has gone, or cannot be read: its lookup will say so
        shown = self.routes.show(volume, nodeid)
        fits = pyfuse3.readdir_reply(token, entry.name, volume.attributes(nodeid, shown, iatt), entry.offset)
        if not fits:
            self.forget([(shown, 1)])
        return fits

    @served
    async def releasedir(self, fh: int) -> None:
        volume, handle = self.routes.handle(fh)
        await volume.bridge.releasedir(Frame(), handle)

    @served
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        volume, handle = self.routes.handle(fh)
        await volume.bridge.fsyncdir(Frame(), handle, datasync)

    # -- extended attributes ---------------------------------------------------------------------------------

    @served
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """pyfuse3 has checked XATTR_CREATE and XATTR_REPLACE by asking for the value."""
        volume, nodeid = self.routes.node(inode)
        if name == _CAPABILITY:
            volume.incapable.discard(nodeid)
        await volume.bridge.setxattr(frame_of(ctx), nodeid, name, value, 0)

    @served
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        volume, nodeid = self.routes.node(inode)
        if name != _CAPABILITY:
            return await volume.bridge.getxattr(frame_of(ctx), nodeid, name)
        if nodeid in volume.incapable:
            raise FopError(errno.ENODATA)
        try:
            return await volume.bridge.getxattr(frame_of(ctx), nodeid, name)
        except FopError as error:
            if error.errno == errno.ENODATA:
                volume.made(nodeid)
            raise

    @served
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        volume, nodeid = self.routes.node(inode)
        return await volume.bridge.listxattr(frame_of(ctx), nodeid)

    @served
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        volume, nodeid = self.routes.node(inode)
        await volume.bridge.removexattr(frame_of(ctx), nodeid, name)
