"""Fixtures that every test may ask for."""

from __future__ import annotations

import gc
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from edged.config.mistakes import Refusal
from edged.config.units import Duration
from tests.brokers import Mosquitto, have_mosquitto
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
_TOLD = "told"
# The longest files, of those that keep a CPU busy and those that mostly wait by turns.
_LONGEST = [
    "tests/system/test_pushes.py",
    "tests/integration/fleet/test_push.py",
    "tests/system/test_install.py",
    "tests/integration/test_signed_install.py",
    "tests/integration/test_swap.py",
    "tests/integration/test_brokers.py",
    "tests/system/test_debians.py",
    "tests/integration/delivery/test_every_interruption.py",
    "tests/system/test_package.py",
    "tests/soak/test_mixed_load.py",
    "tests/system/test_service.py",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run what takes minutes too: the tests marked `soak`")
    parser.addoption("--soak-time", default="2m", help="how long the mixed load of tests/soak lasts (2m)")
    parser.addoption("--brokers", action="store_true", help="run the brokers of other people too: marked `brokers`")


def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis: a busy machine is no fault, neither how long an example takes nor how long it takes to make one."""
    examples = 200 if config.getoption("--soak") else 50
    settings.register_profile(
        "edged", max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("edged")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --soak the tests marked so are left out, whatever -m says; those of --brokers likewise."""
    unasked = [mark for mark in ("soak", "brokers") if not config.getoption(f"--{mark}")]
    for item in items:
        if "soak_s" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(2 * _soak_s(config) + 600))
    left = [item for item in items if any(item.get_closest_marker(mark) for mark in unasked)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, int]:
    """When its file has its turn: the longest first, so that no process is alone with one at the end; then all mixed,
    as neighbours are of one kind, and many that wait at once leave the CPUs idle.
    """
    file = item.path.relative_to(ROOT).as_posix()
    return _LONGEST.index(file) if file in _LONGEST else len(_LONGEST), zlib.crc32(file.encode())


def pytest_collection_finish() -> None:
    """What was collected stays until the end: Python need not look at a million objects again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether --soak was given, for a test that has a short form."""
    return bool(request.config.getoption("--soak"))


def _soak_s(config: pytest.Config) -> float:
    try:
        return Duration.parse(config.getoption("--soak-time"))
    except Refusal as error:
        raise pytest.UsageError(f"--soak-time: {error}") from None


@pytest.fixture(scope="session")
def soak_s(request: pytest.FixtureRequest) -> float:
    """Seconds of load that --soak-time asks for; a test that takes it has time for twice as many and ten minutes."""
    return _soak_s(request.config)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keeps a text for the end of the run, where it is printed whatever has become of the test."""
    return lambda text: record_property(_TOLD, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests had to tell: they may have run in other processes."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, text in report.user_properties if report.when == "call" else ():
            if name == _TOLD:
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(str(text))


@pytest.fixture(scope="session")
def digits() -> Path:
    """The folder of the digits example: models of one signature and 597 scans."""
    return ROOT / "examples" / "digits"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real photos, sensors and audio that $EDGED_TEST_DATA names; without it the test is skipped."""
    named = os.environ.get("EDGED_TEST_DATA")
    if not named:
        pytest.skip("EDGED_TEST_DATA names no folder with real inputs")
    folder = Path(named)
    if not (folder / "expected.json").is_file():
        pytest.fail(f"EDGED_TEST_DATA={named}: there is no expected.json in it")
    return folder


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty folder with a short path: a UNIX socket's address has at most 107 bytes, tmp_path may have more."""
    with tempfile.TemporaryDirectory(prefix="edged-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def port() -> Callable[[], int]:
    """Gives a TCP port of loopback that was free a moment ago, another one at each call."""
    return free_port


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real Mosquitto on loopback that lets everyone in."""
    if not have_mosquitto():
        pytest.skip("mosquitto is not installed; scripts/test installs it")
    folder = tmp_path / "broker"
    folder.mkdir()
    with Mosquitto(folder) as running:
        yield running
