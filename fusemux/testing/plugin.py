"""The pytest plugin: fixture `fusemux_volume`, marker `fusemux`, option `--fusemux-seed`.

Nothing but pytest and this package's light modules is imported before the fixture is used.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from fusemux.testing.wish import Wish, WishError, wish_of

if TYPE_CHECKING:
    from fusemux.testing.graph import GraphVolume
    from fusemux.testing.volume import Volume

__all__ = ["fusemux_volume"]

_SEED: pytest.StashKey[int] = pytest.StashKey()
_VOLUME: pytest.StashKey[Any] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fusemux", "volumes with faults on command")
    group.addoption(
        "--fusemux-seed", type=int, metavar="N", help="Replay the random choices of the run that printed N."
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "fusemux(spec='replica=3', /, *, replica, arbiter, distribute, disperse, redundancy, size, volfile, backend, options, "
        "mount_options, volatile, disk): what volume `fusemux_volume` is",
    )
    given = config.getoption("fusemux_seed")
    from_controller = getattr(config, "workerinput", {}).get("fusemux_seed")  # under pytest-xdist all share one
    config.stash[_SEED] = next(
        seed for seed in (given, from_controller, random.SystemRandom().getrandbits(32)) if seed is not None
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["fusemux_seed"] = node.config.stash[_SEED]


def pytest_report_header(config: pytest.Config) -> str:
    return f"fusemux: --fusemux-seed={config.stash[_SEED]}"


@pytest.fixture
def fusemux_volume(request: pytest.FixtureRequest) -> Iterator[Volume | GraphVolume]:
    """A volume as `@pytest.mark.fusemux(...)` describes it, three copies without; nothing of it is left afterwards."""
    marker = request.node.get_closest_marker("fusemux")
    try:
        wish = wish_of(marker.args, marker.kwargs) if marker else Wish()
    except WishError as error:
        pytest.fail(str(error), pytrace=False)
    seed = request.config.stash[_SEED] ^ zlib.crc32(request.node.nodeid.encode())
    volume = _made(wish, seed)
    request.node.stash[_VOLUME] = volume
    try:
        yield volume
    finally:
        volume.close()


def _made(wish: Wish, seed: int) -> Volume | GraphVolume:
    """Skips where there can be none, fails when the wish cannot be."""
    from fusemux.graph.framework import registry
    from fusemux.graph.framework.errors import FusemuxError
    from fusemux.mount.errors import MountError
    from fusemux.mount.preflight import check_fuse

    if ("disperse" in wish.spec or "+" in wish.spec) and registry.find("cluster/disperse") is None:
        pytest.skip("fusemux has no cluster/disperse yet")
    if wish.backend == "mount":
        try:
            check_fuse(allow_other=None)
        except MountError as error:
            pytest.skip(f"cannot mount here: {error}")
    try:
        if wish.backend == "graph":
            from fusemux.testing.graph import GraphVolume

            return GraphVolume(wish, seed)
        from fusemux.testing.volume import Volume

        return Volume(wish, seed)
    except (FusemuxError, OSError) as error:
        pytest.fail(f"fusemux volume {wish.volfile or wish.spec}: {error}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if report.when == "call" and report.failed and _VOLUME in item.stash:
        seed = f"replay with --fusemux-seed={item.config.stash[_SEED]}\n"
        report.sections.append(("fusemux volume", seed + item.stash[_VOLUME].report()))
    return report
