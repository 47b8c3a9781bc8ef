"""The options of cluster/replicate, named and defaulted as GlusterFS's are."""

from __future__ import annotations

from fusemux.graph.framework.options import Option

__all__ = ["OPTIONS"]

OPTIONS = (
    Option("afr-pending-xattr", "list", None, "Names of the children in the changelog's xattrs, in child order; unset: "
           "the children's own names.", live=False),
    Option("afr-dirty-xattr", "str", "trusted.afr.dirty", "The xattr that marks transactions under way.", live=False),
    Option("arbiter-count", "int", "0", "1: the last child keeps names and attributes but no data.", low=0, high=1, live=False),
    Option("eager-lock", "bool", "on", "Keep the dirty mark of a file between writes instead of setting and clearing it each "
           "time.", key="cluster.eager-lock"),
    Option("full-lock", "bool", "yes", "Without eager-lock, writes exclude each other on the whole file; no: only where they "
           "overlap.", key="cluster.full-lock"),
    Option("post-op-delay-secs", "int", "1", "How long a file's dirty mark stays after the last write; 0 clears it after each "
           "write.", key="cluster.post-op-delay-secs", low=0, high=2147483647),
    Option("optimistic-change-log", "bool", "on", "Changes of names and attributes are not marked in advance while all copies "
           "are there.", key="cluster.optimistic-change-log"),
    Option("ensure-durability", "bool", "on", "Sync overwritten data to the bricks' disks before the dirty mark is cleared.",
           key="cluster.ensure-durability"),
    Option("granular-entry-heal", "bool", "off", "Record on the good copies which names of a directory changed.",
           key="cluster.granular-entry-heal"),
    Option("quorum-type", "enum", None, "How many copies must take part: none, auto (more than half, or half with the first) or "
           "fixed (quorum-count); unset: auto for three copies and more, none for two.", key="cluster.quorum-type",
           choices=("none", "auto", "fixed")),
    Option("quorum-count", "int", None, "With quorum-type fixed: how many.", key="cluster.quorum-count", low=1, high=2147483647),
    Option("choose-local", "bool", "true", "Read from the first copy in this process, if it answers without waiting.",
           key="cluster.choose-local"),
    Option("read-subvolume", "str", None, "Read from this child while it can be read.", key="cluster.read-subvolume"),
    Option("read-subvolume-index", "int", "-1", "The same by number; -1: none.", key="cluster.read-subvolume-index", low=-1),
    Option("read-hash-mode", "int", "1", "Which copy is read: 0 the first, 1 by gfid, 2 by gfid and process, 3 fewest reads under "
           "way, 4 least latency, 5 least latency times reads.", key="cluster.read-hash-mode", low=0, high=5),
    Option("consistent-metadata", "bool", "no", "Listings show attributes only from the copy that also serves the file.",
           key="cluster.consistent-metadata"),
    Option("volume-id", "str", None, "The volume's id: names the hidden directory where healing parks directories.", live=False),
    Option("self-heal-daemon", "bool", "on", "Heal in the background what the indices list.", key="cluster.self-heal-daemon"),
    Option("heal-timeout", "int", "600", "Seconds between two looks at the indices; a brick that comes back is looked at at once.",
           key="cluster.heal-timeout", low=5, high=2147483647),
    Option("shd-max-threads", "int", "1", "How many inodes are healed side by side, where bricks wait for disks.",
           key="cluster.shd-max-threads", low=1, high=64),
    Option("data-self-heal", "bool", "off", "Heal the contents of a file when it is read, too.", key="cluster.data-self-heal"),
    Option("metadata-self-heal", "bool", "off", "Heal owner, mode and xattrs when they are looked at, too.",
           key="cluster.metadata-self-heal"),
    Option("entry-self-heal", "bool", "off", "Heal the names of a directory when it is listed, too.", key="cluster.entry-self-heal"),
    Option("background-self-heal-count", "int", "8", "How many inodes that were accessed are healed side by side; 0: none.",
           key="cluster.background-self-heal-count", low=0, high=256),
    Option("heal-wait-queue-length", "int", "128", "How many more may wait for that.", key="cluster.heal-wait-queue-length",
           low=0, high=10000),
    Option("data-self-heal-algorithm", "enum", None, "How contents are healed: full copies all blocks, diff those that "
           "differ; unset: diff, unless nothing is there to compare with.", key="cluster.data-self-heal-algorithm",
           choices=("diff", "full")),
    Option("use-anonymous-inode", "bool", "yes", "What healing must take from its place and may need elsewhere is parked in a hidden "
           "directory; no: directories are removed and made again.", key="cluster.use-anonymous-inode"),
    Option("favorite-child-policy", "enum", "none", "Which copy wins a split-brain without being asked: none, the largest (size), the "
           "newest by ctime or mtime, or the majority of equal ones.", key="cluster.favorite-child-policy",
           choices=("none", "size", "ctime", "mtime", "majority")),
)  # fmt: skip
