"""Fops that must fail."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from fusemux.graph.framework.errors import FopError

__all__ = ["refused"]


@contextmanager
def refused(*numbers: int) -> Iterator[None]:
    """The block must fail with one of these errnos."""
    names = [errno.errorcode[number] for number in numbers]
    try:
        yield
    except FopError as error:
        assert error.errno in numbers, f"expected {names}, got {error!r}"
    else:
        raise AssertionError(f"expected {names}, nothing failed")
