"""Attributes and xattrs.  A file's are its subvolume's; a directory's are kept on all, the metadata server's first.

A change of user xattrs is announced on the MDS before and confirmed after it (see directory.py), so that a subvolume
that missed it is healed by the next lookup.  A change of mode or owner needs no announcement: lookups compare those anyway.
While the MDS is down a directory cannot be changed.  The root has no MDS: all subvolumes are changed, any one suffices.

Distribute's own xattrs are neither shown to users nor set by them; internal callers (negative pid) may.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from fusemux.graph.cluster.distribute.base import internal
from fusemux.graph.cluster.distribute.directory import MDS_STEP, Directory, merge
from fusemux.graph.cluster.distribute.fops.dispatch import Dispatch, _to_file
from fusemux.graph.cluster.distribute.space import total
from fusemux.graph.framework.errors import FopError
from fusemux.graph.framework.fanout import fan_out
from fusemux.graph.framework.inode import Fd, Inode
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.types import ROOT_GFID, Frame, Iatt, SetAttr, StatVfs, Xdata

__all__ = ["Metadata"]

_ADD = 0  # xattrop: add to arrays of 32-bit numbers
_FIX_LAYOUT = b"distribute.fix.layout"  # set on a directory: divide it anew
_HASHED = b"dht.file.hashed-subvol."  # + name, asked of a directory: the subvolume that the name hashes to
_PATHINFO = (b"trusted.glusterfs.pathinfo", b"glusterfs.pathinfo")
_on_file = {name: _to_file(name) for name in ("stat", "setattr", "getxattr", "setxattr", "removexattr", "xattrop")}


def _inode(target: Inode | Fd) -> Inode:
    return target if isinstance(target, Inode) else target.inode


class Metadata(Dispatch):
    def _is_file(self, target: Inode | Fd) -> bool:
        return _inode(target).ctx[self.inode_slot].__class__ is Edge

    async def _directory_of(self, frame: Frame, target: Inode | Fd) -> Directory | None:
        """The directory that `target` is; None for a file."""
        inode = _inode(target)
        known = inode.ctx[self.inode_slot]
        if known is None:
            await self.resolve(frame, inode)
            known = inode.ctx[self.inode_slot]
        return await self.directory(frame, inode) if isinstance(known, Directory) else None

    # -- reading ---------------------------------------------------------------------------------------------

    async def stat(self, frame: Frame, target: Inode | Fd, xdata: Xdata = None) -> Iatt:
        inode = target if target.__class__ is Inode else target.inode  # type: ignore[union-attr]
        edge = inode.ctx[self.inode_slot]
        if edge.__class__ is Edge:
            iatt: Iatt = await _on_file["stat"](self, frame, target, xdata)
            return iatt
        if self.steady and edge.__class__ is Directory and edge.generation == self.generation:
            try:
                iatts = [await child.stat(frame, target, xdata) for child in self.children]
                return merge(iatts, iatts[edge.mds or 0])
            except FopError:
                pass  # a copy is missing
        directory = await self._directory_of(frame, target)
        if directory is None:
            iatt = await _on_file["stat"](self, frame, target, xdata)
            return iatt
        return self._merged(await self.ask_all("stat", frame, target, xdata), directory)

    def _merged(self, answers: list[Any], directory: Directory) -> Iatt:
        """A directory's attributes from several copies; the copies that are not there do not matter."""
        iatts = {place: a for place, a in enumerate(answers) if isinstance(a, Iatt)}
        if not iatts:
            raise next(a for a in answers if isinstance(a, FopError))
        mds = directory.mds
        return merge(list(iatts.values()), iatts[mds] if mds in iatts else next(iter(iatts.values())))

    async def getxattr(
        self, frame: Frame, target: Inode | Fd, name: bytes | None, xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        own = self.xattr
        if name is not None and name.startswith(own.layout) and frame.pid >= 0:
            raise FopError(errno.ENODATA)
        if len(self.children) == 1:
            found = await self.child.getxattr(frame, target, name, xdata)
        elif self._is_file(target):
            found = await _on_file["getxattr"](self, frame, target, name, xdata)
        else:
            found = await self._getxattr_directory(frame, target, name, xdata)
        if name in _PATHINFO and name is not None:
            return {name: b"(<DISTRIBUTE:%s> %s)" % (self.name.encode(), bytes(found[name]).rstrip(b"\0"))}
        if name is None and frame.pid >= 0:
            return {key: value for key, value in found.items() if not key.startswith(own.layout)}
        values: Mapping[bytes, bytes] = found
        return values

    async def _getxattr_directory(
        self, frame: Frame, target: Inode | Fd, name: bytes | None, xdata: Xdata
    ) -> Mapping[bytes, bytes]:
        directory = await self._directory_of(frame, target)
        if directory is None:
            found: Mapping[bytes, bytes] = await _on_file["getxattr"](self, frame, target, name, xdata)
            return found
        if name is not None and name.startswith(_HASHED):
            place = self.hashed(directory, name.removeprefix(_HASHED))
            return {name: self.names[place].encode()}
        mds = directory.mds
        edge = self.children[mds] if mds is not None and self.up[mds] else self.first_up()
        found = await edge.getxattr(frame, target, name, xdata)
        return found

    async def statfs(self, frame: Frame, inode: Inode, xdata: Xdata = None) -> StatVfs:
        """All subvolumes that are up together; bricks that share a file system answer their part of it."""
        answers = await self.ask_all("statfs", frame, inode, xdata)
        whole = total(a for a in answers if isinstance(a, StatVfs))
        if whole is None:
            raise next(a for a in answers if isinstance(a, FopError))
        return whole

    # -- changing --------------------------------------------------------------------------------------------

    async def setattr(self, frame: Frame, target: Inode | Fd, attrs: SetAttr, xdata: Xdata = None) -> Iatt:
        if self._is_file(target):
            iatt: Iatt = await _on_file["setattr"](self, frame, target, attrs, xdata)
            return iatt
        directory = await self._directory_of(frame, target)
        if directory is None:
            iatt = await _on_file["setattr"](self, frame, target, attrs, xdata)
            return iatt
        keys = await self.locks.take((directory.gfid, b""))
        try:
            return self._merged(await self._change(frame, directory, "setattr", target, attrs, xdata), directory)
        finally:
            self.locks.give(keys)

    async def setxattr(
        self, frame: Frame, target: Inode | Fd, xattrs: Mapping[bytes, bytes], flags: int, xdata: Xdata = None
    ) -> None:
        if _FIX_LAYOUT in xattrs:
            await self.fix_layout(frame, _inode(target))
            return
        self._refuse_own(frame, xattrs)
        await self._change_xattrs(frame, "setxattr", target, xattrs, flags, xdata)

    async def removexattr(self, frame: Frame, target: Inode | Fd, name: bytes, xdata: Xdata = None) -> None:
        self._refuse_own(frame, (name,))
        await self._change_xattrs(frame, "removexattr", target, name, xdata)

    def _refuse_own(self, frame: Frame, names: Any) -> None:
        if frame.pid >= 0 and any(name.startswith(self.xattr.layout) for name in names):
            raise FopError(errno.EPERM, f"{self.opt.xattr_name} belongs to {self.name}")

    async def _change_xattrs(self, frame: Frame, fop: str, target: Inode | Fd, *args: Any) -> None:
        if len(self.children) == 1:
            await getattr(self.child, fop)(frame, target, *args)
            return
        directory = None if self._is_file(target) else await self._directory_of(frame, target)
        if directory is None:
            await _on_file[fop](self, frame, target, *args)
            return
        keys = await self.locks.take((directory.gfid, b""))
        try:
            answers = await self._announced(frame, directory, fop, target, *args)
        finally:
            self.locks.give(keys)
        if not any(not isinstance(a, FopError) for a in answers):
            raise answers[0]

    async def _announced(
        self, frame: Frame, directory: Directory, fop: str, target: Inode | Fd, *args: Any
    ) -> list[Any]:
        """A change of xattrs between two steps of the MDS's counter; the second only when nobody missed the change."""
        mds = directory.mds
        if mds is None or not self.up[mds]:
            return await self._change(frame, directory, fop, target, *args)
        edge, own = self.children[mds], internal(frame)
        before, after = MDS_STEP
        inode = _inode(target)
        await edge.xattrop(own, inode, _ADD, {self.xattr.mds: before})
        try:
            answers = await self._change(frame, directory, fop, target, *args)
        except FopError:  # nobody has been changed
            await edge.xattrop(own, inode, _ADD, {self.xattr.mds: after})
            raise
        if not any(isinstance(a, FopError) for a in answers):
            await edge.xattrop(own, inode, _ADD, {self.xattr.mds: after})
        return answers

    async def _change(self, frame: Frame, directory: Directory, fop: str, target: Inode | Fd, *args: Any) -> list[Any]:
        """The same change on all copies, the MDS's first.  Raises when that one fails, or all do."""
        mds = directory.mds
        if mds is None and directory.gfid != ROOT_GFID:
            self.need_all_up("changing a directory whose metadata server is not known")
        if mds is None:
            answers = await self.ask_all(fop, frame, target, *args)
            if all(isinstance(a, FopError) for a in answers):
                raise next((a for a in answers if a.errno != errno.ENOTCONN), answers[0])
            return answers
        if not self.up[mds]:
            raise FopError(errno.ENOTCONN, f"{self.names[mds]}, which decides about this directory, is down")
        first = await getattr(self.children[mds], fop)(frame, target, *args)
        others = [edge for edge in self.edges_up if edge.index != mds]
        answers = [FopError(errno.ENOTCONN) for _ in self.children]
        answers[mds] = first
        for edge, answer in zip(others, await fan_out(others, fop, frame, target, *args), strict=True):
            answers[edge.index] = answer
        return answers

    # -- internal fops from translators above ----------------------------------------------------------------

    async def xattrop(
        self, frame: Frame, target: Inode | Fd, op: int, xattrs: Mapping[bytes, bytes], xdata: Xdata = None
    ) -> Mapping[bytes, bytes]:
        directory = None if self._is_file(target) else await self._directory_of(frame, target)
        if directory is None:
            reply: Mapping[bytes, bytes] = await _on_file["xattrop"](self, frame, target, op, xattrs, xdata)
            return reply
        answers = await self._change(frame, directory, "xattrop", target, op, xattrs, xdata)
        return next(a for a in answers if not isinstance(a, FopError))

    async def inodelk(
        self, frame: Frame, domain: str, target: Inode | Fd, cmd: int, flock: Any, xdata: Xdata = None
    ) -> None:
        """On the subvolume of a file, or the one that decides about a directory."""
        directory = None if self._is_file(target) else await self._directory_of(frame, target)
        edge = await self.file(frame, _inode(target)) if directory is None else self._decider(directory)
        await edge.inodelk(frame, domain, target, cmd, flock, xdata)

    async def entrylk(
        self, frame: Frame, domain: str, inode: Inode, name: bytes, cmd: int, type: int, xdata: Xdata = None
    ) -> None:
        await self._decider(await self.directory(frame, inode)).entrylk(frame, domain, inode, name, cmd, type, xdata)

    def _decider(self, directory: Directory) -> Edge:
        mds = directory.mds
        return self.children[mds] if mds is not None and self.up[mds] else self.first_up()
