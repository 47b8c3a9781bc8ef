"""Which errno wins."""

from __future__ import annotations

from errno import EIO, ENODATA, ENOENT, ENOSPC, ENOTCONN, EROFS, ESTALE

import pytest

from fusemux.graph.cluster.replicate.errors import fold


@pytest.mark.parametrize(
    ("errnos", "folded"),
    [
        ([], ENOTCONN),
        ([EIO], EIO),
        ([EIO, EROFS], EROFS),  # the last one seen
        ([EROFS, EIO], EIO),
        ([ENOSPC, EIO], ENOSPC),
        ([EIO, ENOSPC, ESTALE], ESTALE),
        ([ESTALE, ENOENT, EIO], ENOENT),
        ([ENOENT, ENODATA, ENOTCONN], ENODATA),
        ([ENOTCONN, ENOTCONN], ENOTCONN),
    ],
)
def test_the_errors_of_several_children_become_one(errnos: list[int], folded: int) -> None:
    assert fold(errnos) == folded
