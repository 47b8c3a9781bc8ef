"""Replication: cluster/replicate (GlusterFS: AFR)."""

from fusemux.graph.cluster.replicate.replicate import Replicate

__all__ = ["Replicate"]
