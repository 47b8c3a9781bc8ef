"""The options of storage/posix."""

from __future__ import annotations

from fusemux.graph.framework.options import Option

__all__ = ["OPTIONS"]

OPTIONS = (
    Option("directory", "path", None, "The brick's directory.", live=False),
    Option("volume-id", "str", None, "The uuid of the volume; the directory must carry it.", live=False),
    Option("io-mode", "enum", "auto", "Where system calls run: in place, in the thread pool, or as the file system suggests.",
           key="storage.io-mode", choices=("auto", "inline", "pool"), live=False),
    Option("huge-pages", "bool", "off",
           "On ramdisks of their own: large pages for large files.  Several times faster; but each spot that is written in a sparse file takes 2 MiB.",
           key="storage.huge-pages"),
    Option("shared-brick-count", "int", "1", "How many bricks of the volume share this file system; statfs divides by it.", low=1),
    Option("reserve", "percent-or-size", "1%", "Space kept for healing and rebalancing: user writes get ENOSPC before it.",
           key="storage.reserve"),
    Option("ctime", "bool", "on", "Answer with the times recorded for all copies alike, not the backing store's.",
           key="features.ctime"),
    Option("gfid2path", "bool", "on", "Record every name of a file in an xattr of it.", key="storage.gfid2path"),
    Option("max-hardlinks", "int", "100", "Names a file may have.  0: as many as the file system allows.",
           key="storage.max-hardlinks", low=0, high=0xFFFFFFFF),
    Option("create-mask", "octal", "0777", "Permissions that new files may have.", key="storage.create-mask", low=0, high=0o777),
    Option("create-directory-mask", "octal", "0777", "Permissions that new directories may have.",
           key="storage.create-directory-mask", low=0, high=0o777),
    Option("force-create-mode", "octal", "0000", "Permissions that every new file gets.", key="storage.force-create-mode",
           low=0, high=0o777),
    Option("force-directory-mode", "octal", "0000", "Permissions that every new directory gets.",
           key="storage.force-directory-mode", low=0, high=0o777),
    Option("gfid2path-separator", "str", ":", "What stands between the paths that glusterfs.gfidtopath answers.",
           key="storage.gfid2path-separator"),
    Option("health-check-interval", "time", "30", "Time between two tests of the brick's file system.  0: none.",
           key="storage.health-check-interval", low=0),
    Option("health-check-timeout", "time", "20", "How long such a test may take before the brick counts as failed.  0: any time.",
           key="storage.health-check-timeout", low=0),
    Option("janitor-sleep-duration", "time", "10", "How long trees that heal removed wait in the landfill.", low=0),
    Option("fips-mode-rchecksum", "bool", "on", "SHA-256 instead of MD5 as strong checksum.", key="storage.fips-mode-rchecksum"),
    Option("owner-uid", "int", "-1", "Owner of the brick's root.  -1: as it is.", key="storage.owner-uid", low=-1),
    Option("owner-gid", "int", "-1", "Group of the brick's root.  -1: as it is.", key="storage.owner-gid", low=-1),
)  # fmt: skip
