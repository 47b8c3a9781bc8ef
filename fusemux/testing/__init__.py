"""A pytest plugin: a mounted, replicated volume with faults on command, for the tests of programs that store files."""
