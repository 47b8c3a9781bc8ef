"""The translator framework: fops, inodes, options, linking, graphs, the process."""
