"""What a replica set tells the translators above it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fusemux.graph.framework import registry
from fusemux.graph.framework.graph import Graph
from fusemux.graph.framework.process import Process
from fusemux.graph.framework.translator import Event, Translator
from fusemux.graph.framework.volfile import Section
from tests.graph.cluster.replicate.volume import Volume, served


class Ear(Translator):
    """Stands above and remembers what it hears."""

    children_min = 0

    def __init__(self, process: Process) -> None:
        super().__init__("ear", {}, process)
        self.heard: list[str] = []

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        self.heard.append(event.name)


class Late(Translator):
    """A child that reports when the test says so."""

    type = "testing/late"
    children_min = children_max = 0

    @property
    def suspends(self) -> bool:
        return False

    def notify(self, event: Event, source: Translator | None = None, data: Any = None) -> None:
        if event in (Event.CHILD_UP, Event.CHILD_DOWN):
            super().notify(event, self)


def listening(volume: Volume) -> list[str]:
    ear = Ear(volume.process)
    volume.replicate.parents.append(ear)
    return ear.heard


def test_a_set_goes_down_without_quorum_and_comes_up_with_it() -> None:
    async def main() -> None:
        async with served(3) as volume:
            heard = listening(volume)
            for brick in (2, 1):
                await volume.bricks[brick].kill()
            for brick in (1, 2):
                await volume.bricks[brick].start()
            assert heard == ["SOME_DESCENDENT_DOWN", "CHILD_DOWN", "CHILD_UP", "SOME_DESCENDENT_UP"]

    trio.run(main)


def test_another_quorum_can_bring_a_set_down_and_up() -> None:
    async def main() -> None:
        async with served(2) as volume:
            await volume.bricks[0].kill()
            heard = listening(volume)
            volume.reconfigure(quorum_type="auto")
            volume.reconfigure(quorum_type="none")
            assert heard == ["CHILD_DOWN", "CHILD_UP"]

    trio.run(main)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._cache, "testing/late", Late)


async def begun(process: Process, reports: list[tuple[int, Event]]) -> tuple[Graph, list[str]]:
    """A set of three late children, of which some report as soon as it starts."""
    names = ["c0", "c1", "c2"]
    sections = [Section(name, "testing/late") for name in names]
    graph = Graph([*sections, Section("v", "cluster/replicate", {}, names)], process)
    ear = Ear(process)
    graph.translators["v"].parents.append(ear)
    await graph.start()
    for child, event in reports:
        graph.translators[f"c{child}"].notify(event)
    return graph, ear.heard


@pytest.mark.usefixtures("late")
def test_nothing_is_said_before_every_child_has_reported() -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            graph, heard = await begun(process, [(0, Event.CHILD_UP), (1, Event.CHILD_UP)])
            assert heard == []
            graph.translators["c2"].notify(Event.CHILD_DOWN)
            assert heard == ["CHILD_UP"]
            await graph.stop()

    trio.run(main)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ([(0, Event.CHILD_UP), (1, Event.CHILD_UP)], ["CHILD_UP"]),
        ([(1, Event.CHILD_UP)], ["CHILD_DOWN"]),
        ([], ["CHILD_DOWN"]),
    ],
)
def test_children_that_say_nothing_are_waited_for_ten_seconds(
    reports: list[tuple[int, Event]], said: list[str]
) -> None:
    async def main() -> None:
        async with Process(strict=True) as process:
            graph, heard = await begun(process, reports)
            await trio.sleep(9.9)
            assert heard == []
            await trio.sleep(0.2)
            assert heard == said
            await graph.stop()

    trio.run(main, clock=MockClock(autojump_threshold=0))
