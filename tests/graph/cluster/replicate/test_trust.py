"""Who can be relied upon, by how the bricks' last runs ended: by table."""

from __future__ import annotations

import pytest

from fusemux.graph.cluster.replicate.trust import Trust
from fusemux.graph.framework.process import Past

NEW, CLEAN, CRASHED, ROLLED_BACK = Past.NEW, Past.CLEAN, Past.CRASHED, Past.ROLLED_BACK


def came(*pasts: Past) -> Trust:
    trust = Trust(len(pasts))
    for child, past in enumerate(pasts):
        trust.came(child, past, first=True)
    return trust


@pytest.mark.parametrize(
    ("pasts", "unclean", "suspects"),
    [
        ((NEW, NEW, NEW), False, 0b000),
        ((CLEAN, CLEAN, CLEAN), False, 0b000),
        ((CRASHED, CRASHED, CRASHED), True, 0b000),
        ((CLEAN, CRASHED, CLEAN), True, 0b000),
        ((CLEAN, ROLLED_BACK, CLEAN), True, 0b010),
        ((CRASHED, ROLLED_BACK, CRASHED), True, 0b010),
        ((ROLLED_BACK, ROLLED_BACK, CRASHED), True, 0b011),
        ((ROLLED_BACK, ROLLED_BACK, ROLLED_BACK), True, 0b000),
        ((NEW, ROLLED_BACK, ROLLED_BACK), True, 0b000),
        ((NEW, CLEAN, CLEAN), False, 0b000),
    ],
)
def test_an_unclean_end_is_looked_into_and_only_sound_copies_make_others_suspect(
    pasts: tuple[Past, ...], unclean: bool, suspects: int
) -> None:
    trust = came(*pasts)
    assert (trust.unclean, trust.suspects) == (unclean, suspects)


def test_a_brick_killed_under_a_living_set_needs_no_full_look() -> None:
    trust = came(CLEAN, CLEAN)
    trust.went(1)
    trust.came(1, CRASHED, first=False)
    assert not trust.unclean


def test_a_brick_that_lost_power_under_a_living_set_of_new_bricks_is_suspect() -> None:
    trust = came(NEW, NEW)
    trust.went(1)
    trust.came(1, ROLLED_BACK, first=False)
    assert trust.unclean
    assert trust.suspects == 0b10


def test_a_suspect_is_served_while_nobody_better_is_there() -> None:
    trust = came(CLEAN, ROLLED_BACK)
    trust.went(0)
    assert trust.suspects == 0
    trust.came(0, CRASHED, first=False)
    assert trust.suspects == 0b10


def test_what_broke_off_is_to_be_mended_on_each_copy() -> None:
    trust = came(CLEAN, CRASHED, ROLLED_BACK)
    assert trust.unmended == 0b110
    trust.mended(1)
    assert (trust.unmended, trust.unclean) == (0b100, True)


def test_nobody_is_suspect_once_everything_was_looked_at() -> None:
    trust = came(CLEAN, ROLLED_BACK)
    trust.vouched()
    assert not trust.unclean
    assert trust.suspects == 0


def test_a_set_with_other_children_goes_on_with_what_was_known_of_those_that_stay() -> None:
    old = Trust(3)
    for child, past in enumerate((Past.CLEAN, Past.ROLLED_BACK, Past.CLEAN)):
        old.came(child, past, first=True)
    new = Trust(2)
    new.came(0, Past.CRASHED, first=True)  # as it was when it was started, but has been healed since
    new.came(1, Past.CLEAN, first=True)
    new.follow(old, {0: 1, 1: 2})
    assert (new.unclean, new.suspects, new.unmended) == (True, 0b01, 0b01)
    old.mended(1)
    old.vouched()
    new.follow(old, {0: 1, 1: 2})
    assert (new.unclean, new.suspects, new.unmended) == (False, 0, 0)
