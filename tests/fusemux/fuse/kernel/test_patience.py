"""When the channel looks again before it sleeps."""

from __future__ import annotations

from fusemux.fuse.kernel.patience import LOOKS, Patience


def test_looking_in_vain_stops_soon() -> None:
    patience = Patience()
    assert patience.looks == LOOKS
    patience.failed()
    assert patience.looks == 0


def test_what_pays_goes_on_over_a_few_failures() -> None:
    patience = Patience()
    for _ in range(100):
        patience.paid()
    for _ in range(5):
        patience.failed()
    assert patience.looks == LOOKS


def test_it_is_tried_again_from_time_to_time() -> None:
    patience = Patience()
    tried = 0
    for _ in range(330):
        tried += patience.looks > 0
        patience.failed()
    assert 5 <= tried <= 15
