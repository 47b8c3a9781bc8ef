"""The fops of cluster/replicate, by what they touch."""
