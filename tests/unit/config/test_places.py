"""config.places: as a service, as root, and as an ordinary user."""

from __future__ import annotations

from pathlib import Path

from edged.config.places import places


def test_root_without_systemd() -> None:
    found = places({}, uid=0)
    assert found.state == Path("/var/lib/edged")
    assert found.cache == Path("/var/cache/edged")
    assert found.runtime == Path("/run/edged")
    assert found.config == Path("/etc/edged/edged.yaml")


def test_an_ordinary_user() -> None:
    found = places({"HOME": "/home/anna", "XDG_RUNTIME_DIR": "/run/user/1000"}, uid=1000)
    assert found.state == Path("/home/anna/.local/state/edged")
    assert found.cache == Path("/home/anna/.cache/edged")
    assert found.runtime == Path("/run/user/1000/edged")
    assert found.config == Path("/home/anna/.config/edged/edged.yaml")


def test_a_user_who_moved_things() -> None:
    moved = {"HOME": "/home/anna", "XDG_STATE_HOME": "/data/state", "XDG_CONFIG_HOME": "/data/config"}
    found = places({**moved, "XDG_CACHE_HOME": "/data/cache"}, uid=1000)
    assert found.cache == Path("/data/cache/edged")
    assert found.state == Path("/data/state/edged")
    assert found.config == Path("/data/config/edged/edged.yaml")


def test_without_a_session_two_users_do_not_share_a_runtime_folder() -> None:
    one, other = places({"HOME": "/h"}, uid=1000).runtime, places({"HOME": "/h"}, uid=1001).runtime
    assert one != other
    assert one.is_absolute()


def test_systemds_folders_win() -> None:
    given = {"STATE_DIRECTORY": "/var/lib/private/edged:/var/lib/other", "RUNTIME_DIRECTORY": "/run/x", "HOME": "/h"}
    for uid in (0, 1000):
        found = places(given, uid)
        assert found.state == Path("/var/lib/private/edged")
        assert found.runtime == Path("/run/x")
        assert found.cache == Path("/var/lib/private/edged/cache")
        assert places({**given, "CACHE_DIRECTORY": "/var/cache/x:/y"}, uid).cache == Path("/var/cache/x")


def test_empty_variables_count_as_absent() -> None:
    empty = {"STATE_DIRECTORY": "", "RUNTIME_DIRECTORY": "", "XDG_STATE_HOME": "", "HOME": "/h", "XDG_RUNTIME_DIR": ""}
    found = places(empty, uid=1000)
    assert found.state == Path("/h/.local/state/edged")
    assert found.runtime.name == "edged-1000"
