"""Sockets: their rights, what was left behind, and what is refused."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from edged import listening
from edged.config.schema import Sockets, Tls
from edged.errors import EdgedError
from edged.transports.rest.listeners import bind
from tests.certificates import Authority


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def any_umask() -> object:
    before = os.umask(0o177)
    yield
    os.umask(before)


def test_the_socket_is_0660_in_a_folder_of_0750(short_path: Path) -> None:
    path = short_path / "run" / "edged.sock"
    os.umask(0o022)
    (one,) = bind(Sockets(unix=str(path)))
    assert (mode(path), mode(path.parent)) == (0o660, 0o750)
    assert (one.address, one.local) == (str(path), True)
    one.close()
    assert not path.exists()


def test_a_folder_that_is_there_keeps_its_rights(short_path: Path) -> None:
    short_path.chmod(0o711)
    (one,) = bind(Sockets(unix=str(short_path / "s")))
    assert (mode(short_path / "s"), mode(short_path)) == (0o660, 0o711)
    one.close()


def test_the_group_gets_the_socket_and_the_folder(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files to any group")
    monkeypatch.setattr(listening, "GROUP", "games")  # the box that runs the tests need not have `edged`
    path = short_path / "run" / "edged.sock"
    (one,) = bind(Sockets(unix=str(path)))
    games = grp.getgrnam("games").gr_gid
    assert (path.stat().st_gid, path.parent.stat().st_gid) == (games, games)
    one.close()


def test_a_file_left_behind_is_replaced(short_path: Path) -> None:
    path = short_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (one,) = bind(Sockets(unix=str(path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    one.close()


def test_a_living_daemon_is_left_alone(short_path: Path) -> None:
    sockets = Sockets(unix=str(short_path / "s"))
    (first,) = bind(sockets)
    with pytest.raises(EdgedError, match="another edged runs") as caught:
        bind(sockets)
    assert caught.value.fault.code == "no_listener"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(first.address)
    first.close()


def test_what_is_no_socket_is_left_alone(short_path: Path) -> None:
    path = short_path / "s"
    path.write_text("notes")
    with pytest.raises(EdgedError, match="is no socket"):
        bind(Sockets(unix=str(path)))
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(EdgedError, match="is no socket"):
        bind(Sockets(unix=str(path)))
    assert path.is_symlink()


def test_a_path_that_is_too_long_or_nowhere_says_so(short_path: Path) -> None:
    for path in (short_path / ("a" * 120), Path("/proc/nowhere/s")):
        with pytest.raises(EdgedError, match="cannot open the socket"):
            bind(Sockets(unix=str(path)))


def test_tcp_is_loopback_without_nagle(short_path: Path) -> None:
    first, second = bind(Sockets(http=("127.0.0.1:0", "localhost:0")))
    host, _, port = first.address.rpartition(":")
    assert (host, first.local) == ("127.0.0.1", False)
    assert first.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    with socket.create_connection((host, int(port))), first.socket.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("address", "why"),
    [("0.0.0.0:0", "not loopback"), ("8080", "no host:port"), ("127.0.0.1:x", "no host:port"), (":0", "no host:port")],
)
def test_other_addresses_are_refused(address: str, why: str) -> None:
    with pytest.raises(EdgedError, match=why):
        bind(Sockets(http=(address,)))


def test_an_address_for_others_takes_tls_and_a_token(short_path: Path) -> None:
    Authority(short_path).issue("box", server=True)
    tls = Tls(str(short_path / "box.crt"), str(short_path / "box.key"))
    for sockets in (
        Sockets(http=("0.0.0.0:0",), tls=tls),
        Sockets(http=("0.0.0.0:0",), token="t" * 16),
        Sockets(metrics=("0.0.0.0:0",), token="t" * 16),
    ):
        with pytest.raises(EdgedError, match="not loopback"):
            bind(sockets)
    for one in bind(Sockets(http=("0.0.0.0:0",), metrics=("0.0.0.0:0",), tls=tls, token="t" * 16)):
        assert one.tls is not None
        one.close()
    (one,) = bind(Sockets(metrics=("127.0.0.1:0",), tls=tls))
    assert one.tls is None
    one.close()
    (short_path / "box.key").unlink()
    with pytest.raises(EdgedError, match=r"sockets.tls: .*box.key does not exist"):
        bind(Sockets(http=("0.0.0.0:0",), tls=tls, token="t" * 16))


def test_a_port_in_use_closes_what_was_opened(short_path: Path) -> None:
    (taken,) = bind(Sockets(http=("127.0.0.1:0",)))
    path = short_path / "s"
    with pytest.raises(EdgedError, match="Address already in use"):
        bind(Sockets(unix=str(path), http=(taken.address,)))
    assert not path.exists()
    taken.close()


def test_closing_leaves_the_socket_of_the_next_daemon(short_path: Path) -> None:
    sockets = Sockets(unix=str(short_path / "s"))
    (first,) = bind(sockets)
    Path(first.address).rename(short_path / "kept")  # keeps its inode from being used again
    (second,) = bind(sockets)
    first.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(second.address)
    second.close()
