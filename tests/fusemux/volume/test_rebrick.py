"""Other bricks for a volume: the words, the definitions that come of them, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusemux.volume.definition import BrickSpec, Volume, VolumeError
from fusemux.volume.rebrick import (
    AddWords,
    Rebricking,
    RemoveWords,
    added,
    brick_index,
    read_add,
    read_remove,
    read_replace,
    removed,
    replaced,
)


def volume(count: int, **more: int) -> Volume:
    return Volume("web", tuple(BrickSpec(f"/b/{i}") for i in range(count)), **more)  # type: ignore[arg-type]


def add(before: Volume, *words: str) -> Volume:
    return added(before, read_add("web", words), lambda word, number: BrickSpec(word))


def remove(before: Volume, *words: str) -> Volume:
    return removed(before, read_remove("web", words))


def shown(after: Volume) -> list[str]:
    """Each brick's client and path."""
    return [f"{after.client(i).removeprefix('web-client-')}={brick.path}" for i, brick in enumerate(after.bricks)]


# -- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (["/n"], AddWords(None, 0, ("/n",), False)),
        (["/n", "/m", "force"], AddWords(None, 0, ("/n", "/m"), True)),
        (["replica", "3", "/n"], AddWords(3, 0, ("/n",), False)),
        (["replica", "3", "arbiter", "1", "/n", "force"], AddWords(3, 1, ("/n",), True)),
    ],
)
def test_the_words_of_add_brick(words: list[str], meaning: AddWords) -> None:
    assert read_add("web", words) == meaning


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["force"], "which bricks are to be added"),
        (["replica", "3"], "which bricks are to be added"),
        (["replica"], "'replica' needs a number after it, such as 'replica 2'; got 'nothing'"),
        (["replica", "three", "/n"], "got 'three'"),
        (["replica", "0", "/n"], "'replica' needs a number"),
        (["replica", "3", "arbiter", "/n"], "'arbiter' needs a number"),
        (["arbiter", "1", "/n"], "'arbiter' needs 'replica' before it: 'replica 3 arbiter 1'"),
        (["disperse", "6", "/n"], "the disperse count of a volume cannot be changed"),
    ],
)
def test_words_of_add_brick_that_make_no_sense(words: list[str], problem: str) -> None:
    with pytest.raises(VolumeError, match="volume 'web': ") as raised:
        read_add("web", words)
    assert problem in str(raised.value)


def test_the_words_of_remove_brick() -> None:
    assert read_remove("web", ["replica", "2", "/b/2", "force"]) == RemoveWords(2, ("/b/2",))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["replica", "2", "/b/2"], "confirm it with 'force'"),
        (["/b/2", "force"], "removing whole sets would lose their files"),
        (["replica", "2", "force"], "which bricks are to be removed"),
        (["/b/2", "start"], "moving files off bricks (start) is not there"),
        (["replica", "2", "/b/2", "commit"], "moving files off bricks (commit) is not there"),
    ],
)
def test_words_of_remove_brick_that_make_no_sense(words: list[str], problem: str) -> None:
    with pytest.raises(VolumeError, match="volume 'web': ") as raised:
        read_remove("web", words)
    assert problem in str(raised.value)


@pytest.mark.parametrize("words", [[], ["commit"], ["commit", "force"], ["force"]])
def test_the_words_of_replace_brick_need_not_be_said(words: list[str]) -> None:
    assert read_replace("web", words) == ("force" in words)


@pytest.mark.parametrize("words", [["start"], ["status"], ["at", "once"], ["force", "commit"]])
def test_words_of_replace_brick_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises(VolumeError, match="volume 'web': "):
        read_replace("web", words)


@pytest.mark.parametrize("word", ["/b/1", "localhost:/b/1", "1"])
def test_a_brick_is_given_by_path_host_or_number(word: str) -> None:
    assert brick_index(volume(3), word) == 1


def test_a_brick_that_is_none_of_the_volume_is_named() -> None:
    with pytest.raises(
        VolumeError, match=r"volume 'web' has no brick /b/x, did you mean '/b/.'\?; `fusemux volume info web`"
    ):
        brick_index(volume(3), "/b/x")


# -- definitions ---------------------------------------------------------------------------------------------------


def test_a_brick_that_replaces_one_takes_its_place_and_number() -> None:
    after = replaced(volume(4, replica=2), 2, BrickSpec("/n"))
    assert shown(after) == ["0=/b/0", "1=/b/1", "2=/n", "3=/b/3"]


def test_new_copies_stand_at_the_end_of_their_sets_and_get_new_numbers() -> None:
    after = add(volume(4, replica=2), "replica", "3", "/n", "/m")
    assert shown(after) == ["0=/b/0", "1=/b/1", "4=/n", "2=/b/2", "3=/b/3", "5=/m"]
    assert (after.replica, after.arbiter, after.count_text) == (3, 0, "2 x 3 = 6")
    wider = add(after, "replica", "5", "/p", "/q", "/r", "/s")
    assert shown(wider)[:5] == ["0=/b/0", "1=/b/1", "4=/n", "6=/p", "7=/q"]


@pytest.mark.parametrize("words", [["replica", "3", "arbiter", "1"], ["replica", "2", "arbiter", "1"]])
def test_an_arbiter_is_added_to_two_copies(words: list[str]) -> None:
    after = add(volume(4, replica=2), *words, "/n", "/m")
    assert (after.count_text, [i for i in range(6) if after.is_arbiter(i)]) == ("2 x (2 + 1) = 6", [2, 5])


@pytest.mark.parametrize(
    ("before", "words", "count"),
    [
        (volume(2), ["/n"], "3"),
        (volume(2, replica=2), ["/n", "/m"], "2 x 2 = 4"),
        (volume(2, replica=2), ["replica", "2", "/n", "/m"], "2 x 2 = 4"),
        (volume(3, replica=3, arbiter=1), ["replica", "3", "arbiter", "1", "/n", "/m", "/o"], "2 x (2 + 1) = 6"),
        (volume(3, replica=3, arbiter=1), ["/n", "/m", "/o"], "2 x (2 + 1) = 6"),
        (volume(1), ["replica", "2", "/n"], "1 x 2 = 2"),
    ],
)
def test_whole_sets_are_added_at_the_end(before: Volume, words: list[str], count: str) -> None:
    after = add(before, *words)
    assert after.count_text == count
    assert after.bricks[: len(before.bricks)] == before.bricks
    assert after.numbers == ()


@pytest.mark.parametrize(
    ("before", "words", "problem"),
    [
        (volume(2, replica=2), ["replica", "3", "/n", "/m"], "need 1 more for each of 1 sets, 1 bricks, got 2"),
        (volume(4, replica=2), ["replica", "3", "/n"], "2 bricks, got 1"),
        (volume(2, replica=2), ["/n"], "its sets have 2 bricks, so 2, 4, ... bricks can be added, got 1; for more copies say 'replica 3'"),
        (volume(3, replica=3), ["replica", "2", "/n"], "remove-brick web replica 2"),
        (volume(3, replica=3, arbiter=1), ["replica", "4", "/n"], "has an arbiter, and the count of such a volume cannot be raised"),
        (volume(3, replica=3), ["replica", "3", "arbiter", "1", "/n", "/m", "/o"], "can only be added to one that has 2 copies"),
        (volume(3, replica=3), ["replica", "4", "arbiter", "1", "/n"], "one arbiter can be added to 2 copies"),
        (volume(2, replica=2), ["replica", "3", "arbiter", "2", "/n"], "not 2 to 2 for replica 3"),
        (volume(2, replica=2), ["replica", "3", "/b/1"], "has the brick /b/1 already"),
        (volume(2, replica=2), ["replica", "3", "/b/1/inside"], "lies inside brick /b/1"),
        (volume(2, replica=2), ["replica", "4", "/n", "/n"], "found duplicate brick"),
        (volume(6, disperse=6, redundancy=2), ["replica", "2", "/n"], "is dispersed, it has no copies"),
    ],
)  # fmt: skip
def test_bricks_that_cannot_be_added(before: Volume, words: list[str], problem: str) -> None:
    with pytest.raises(VolumeError) as raised:
        add(before, *words)
    assert problem in str(raised.value)


def test_copies_that_are_removed_leave_the_numbers_of_the_others() -> None:
    after = remove(volume(6, replica=3), "replica", "2", "/b/0", "/b/5", "force")
    assert shown(after) == ["1=/b/1", "2=/b/2", "3=/b/3", "4=/b/4"]
    assert (after.replica, after.count_text) == (2, "2 x 2 = 4")
    again = add(after, "replica", "3", "/n", "/m")
    assert shown(again) == ["1=/b/1", "2=/b/2", "5=/n", "3=/b/3", "4=/b/4", "6=/m"]


def test_an_arbiter_is_removed() -> None:
    after = remove(volume(3, replica=3, arbiter=1), "replica", "2", "/b/2", "force")
    assert (after.count_text, after.arbiter, after.numbers) == ("1 x 2 = 2", 0, ())


@pytest.mark.parametrize(
    ("before", "words", "problem"),
    [
        (volume(3, replica=3), ["replica", "2", "/b/0", "/b/1", "force"], "takes 1 of the bricks of each set, of set 0 (/b/0, /b/1, /b/2) 2 are named"),
        (volume(6, replica=3), ["replica", "2", "/b/0", "/b/1", "force"], "of set 0"),
        (volume(3, replica=3), ["replica", "3", "/b/0", "force"], "has 3 copies; 'replica 3' must be fewer"),
        (volume(3), ["replica", "1", "/b/0", "force"], "has 1 copy; 'replica 1' must be fewer, and there are none"),
        (volume(3, replica=3), ["replica", "1", "/b/0", "/b/0", "force"], "a brick is named twice"),
        (volume(3, replica=3), ["replica", "2", "/x", "force"], "has no brick /x"),
        (volume(3, replica=3, arbiter=1), ["replica", "2", "/b/0", "force"], "/b/0 holds data; write 'replica 2 /b/2 force'"),
        (volume(3, replica=3, arbiter=1), ["replica", "1", "/b/2", "/b/0", "force"], "only the arbiter can be removed"),
    ],
)  # fmt: skip
def test_bricks_that_cannot_be_removed(before: Volume, words: list[str], problem: str) -> None:
    with pytest.raises(VolumeError) as raised:
        remove(before, *words)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("before", "index", "path", "problem"),
    [
        (volume(2), 0, "/n", "is not replicated: nobody has a copy of what is on localhost:/b/0"),
        (volume(6, disperse=6, redundancy=2), 0, "/n", "is not replicated"),
        (volume(2, replica=2), 0, "/b/1", "has the brick /b/1 already"),
        (volume(2, replica=2), 0, "/b", "lies inside brick /b"),
    ],
)
def test_bricks_that_cannot_be_replaced(before: Volume, index: int, path: str, problem: str) -> None:
    with pytest.raises(VolumeError) as raised:
        replaced(before, index, BrickSpec(path))
    assert problem in str(raised.value)


# -- what differs --------------------------------------------------------------------------------------------------


def test_what_two_definitions_differ_in() -> None:
    before = volume(4, replica=2)
    wider = add(before, "replica", "3", "/n", "/m")
    change = Rebricking.of(before, wider)
    assert (change.replaced, change.added, change.removed, change.fresh) == ((), (2, 5), (), (2, 5))
    change = Rebricking.of(wider, remove(wider, "replica", "2", "/b/0", "/m", "force"))
    assert (change.replaced, change.added, change.removed, change.fresh) == ((), (), (0, 5), ())
    change = Rebricking.of(wider, replaced(wider, 2, BrickSpec("/o")))
    assert (change.replaced, change.added, change.removed, change.fresh) == (((2, 2),), (), (), (2,))
    change = Rebricking.of(before, add(before, "/n", "/m"))
    assert (change.replaced, change.added, change.removed, change.fresh) == ((), (4, 5), (), ())


def test_numbers_that_are_not_one_for_each_brick_are_refused() -> None:
    with pytest.raises(VolumeError, match=r"numbers \[0, 0\] are not one for each brick"):
        replaced(replace(volume(2, replica=2), numbers=(0, 0)), 0, BrickSpec("/n"))
