"""The fop table is complete, consistent, and fits the translator class."""

from __future__ import annotations

import pytest

from fusemux.graph.framework import fops
from fusemux.graph.framework.fops import FOP_NAMES, FOPS, Class, Fop, Kind
from fusemux.graph.framework.linking import Edge
from fusemux.graph.framework.translator import Translator

EVERY = pytest.mark.parametrize("fop", FOPS.values(), ids=FOP_NAMES)


def test_no_fop_is_declared_twice() -> None:
    assert len(fops._TABLE) == len(FOPS)


@EVERY
def test_a_fop_says_what_it_does(fop: Fop) -> None:
    assert fop.doc.endswith(".")


@EVERY
def test_argument_names_are_distinct_and_leave_room_for_frame_and_xdata(fop: Fop) -> None:
    names = [arg.name for arg in fop.args]
    assert len({*names, "frame", "xdata", "self"}) == len(names) + 3


@EVERY
def test_no_fop_hides_an_attribute_of_translators_or_edges(fop: Fop) -> None:
    """`intercepts` asks with hasattr; a fop named like a method of the base class would always be intercepted."""
    assert not hasattr(Translator, fop.name)
    assert fop.name not in ("index", "parent", "suspends", "translator", "bind", "name")
    assert fop.name in Edge.__slots__


@EVERY
def test_a_fop_that_makes_or_removes_something_is_not_repeated_blindly(fop: Fop) -> None:
    makes = any(arg.kind is Kind.GFID for arg in fop.args)
    if makes or fop.name in ("unlink", "rmdir", "rename", "link", "xattrop"):
        assert not fop.idempotent


@EVERY
def test_what_changes_the_volume_is_what_writes_names_data_or_metadata(fop: Fop) -> None:
    assert fop.changes == (fop.kind in (Class.WRITE, Class.ENTRY, Class.METADATA))


@EVERY
def test_a_fop_acts_on_something(fop: Fop) -> None:
    assert any(arg.kind in (Kind.INODE, Kind.FD, Kind.TARGET) for arg in fop.args)
