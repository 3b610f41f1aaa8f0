"""The section `sockets`: tokens and certificates from files, and what an address for others takes."""

from __future__ import annotations

import ssl

import pytest

from edged.config.certificates import server_context
from edged.config.schema import Fast
from tests.certificates import Authority
from tests.unit.config.folder import Folder

GOOD = "0123456789abcdef"
OPEN = "sockets:\n  http: 0.0.0.0:8443\n  token_file: token\n  tls: {cert: box.crt, key: box.key}\n"


@pytest.fixture
def authority(folder: Folder) -> Authority:
    folder.write(f"{GOOD}\n", "token").chmod(0o600)
    made = Authority(folder.path)
    made.issue("box", server=True)
    return made


@pytest.mark.usefixtures("authority")
def test_an_address_for_others_with_both_is_taken(folder: Folder) -> None:
    found = folder.load(OPEN).sockets
    assert (found.http, found.token) == (("0.0.0.0:8443",), GOOD)
    assert server_context(found.tls.cert, found.tls.key, "").verify_mode is ssl.CERT_NONE


@pytest.mark.usefixtures("authority")
def test_clients_need_a_certificate_where_their_authority_is_named(folder: Folder) -> None:
    tls = folder.load(OPEN.replace("box.key", "box.key, client_ca: ca.crt")).sockets.tls
    assert server_context(tls.cert, tls.key, tls.client_ca).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(
    ("without", "what"),
    [("  token_file: token\n", "sockets.token_file"), ("  tls: {cert: box.crt, key: box.key}\n", "sockets.tls")],
)
def test_an_address_for_others_takes_both(folder: Folder, without: str, what: str) -> None:
    expected = f"2: sockets.http: 0.0.0.0 is not this box alone, which takes {what} (did you mean 127.0.0.1:8443?)"
    assert folder.mistake(OPEN.replace(without, "")) == expected


@pytest.mark.usefixtures("authority")
def test_grpc_for_others_takes_both_too(folder: Folder) -> None:
    there = OPEN.replace("http:", "grpc:")
    assert folder.load(there).sockets.grpc == ("0.0.0.0:8443",)
    expected = "2: sockets.grpc: 0.0.0.0 is not this box alone, which takes sockets.token_file and sockets.tls"
    assert folder.mistake("sockets:\n  grpc: 0.0.0.0:8443\n").startswith(expected)


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("http: 127.0.0.1:1, grpc: 127.0.0.1:1", "sockets.grpc: 127.0.0.1:1 is in sockets.http already"),
        ("grpc: 127.0.0.1:1, metrics: 127.0.0.1:1", "sockets.metrics: 127.0.0.1:1 is in sockets.grpc already"),
        ("unix: /run/a, grpc: unix:/run/a", "sockets.grpc: /run/a is sockets.unix already"),
    ],
)
def test_no_two_doors_in_one_place(folder: Folder, written: str, what: str) -> None:
    assert folder.mistake(f"sockets: {{{written}}}\n") == f"1: {what}"


@pytest.mark.usefixtures("authority")
def test_metrics_for_others_take_no_token(folder: Folder) -> None:
    found = folder.load("sockets: {metrics: 0.0.0.0:9464, tls: {cert: box.crt, key: box.key}}\n").sockets
    assert (found.metrics, found.token) == (("0.0.0.0:9464",), "")


@pytest.mark.usefixtures("authority")
def test_systemds_credentials_come_first(folder: Folder) -> None:
    credentials = folder.path / "credentials"
    credentials.mkdir()
    folder.write("b" * 16, "credentials/token").chmod(0o600)
    folder.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert folder.load("sockets: {token_file: token}\n").sockets.token == "b" * 16


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "is empty"),
        ("short", ": a token has at least 16 characters"),
        (f"{GOOD}\n{GOOD}", "holds no token: letters, digits and ._~+/- in one line"),
        (f"{GOOD} x", "holds no token: letters, digits and ._~+/- in one line"),
        (f"{GOOD}é", "holds no token: letters, digits and ._~+/- in one line"),
    ],
)
@pytest.mark.parametrize("key", ["token_file", "admin_token_file"])
def test_what_is_no_token_is_refused(folder: Folder, key: str, content: str, what: str) -> None:
    folder.write(content, "token").chmod(0o600)
    found = folder.mistake(f"sockets:\n  {key}: token\n")
    assert found.startswith(f"2: sockets.{key}: {folder.path}/token")
    assert what in found


def test_a_token_file_that_is_not_there_is_the_only_mistake(folder: Folder) -> None:
    Authority(folder.path).issue("box", server=True)
    assert folder.mistake(OPEN) == f"3: sockets.token_file: {folder.path}/token does not exist"


@pytest.mark.usefixtures("authority")
def test_the_two_tokens_differ(folder: Folder) -> None:
    found = folder.mistake("sockets:\n  token_file: token\n  admin_token_file: token\n")
    assert found.startswith("3: sockets.admin_token_file: is the same token as sockets.token_file")


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(
    ("tls", "what"),
    [
        ("{cert: no.crt, key: box.key}", "tls.cert: {folder}/no.crt does not exist"),
        ("{cert: token, key: box.key}", "tls.cert: {folder}/token holds no certificate"),
        ("{cert: box.crt}", "tls.cert: {folder}/box.crt holds no key"),
        ("{cert: box.crt, key: other.key}", "tls.key: {folder}/other.key is not the key to the certificate in"),
        ("{cert: box.crt, key: box.key, client_ca: token}", "tls.client_ca: {folder}/token holds no certificate"),
    ],
)
def test_what_is_no_certificate_or_key_is_refused(folder: Folder, authority: Authority, tls: str, what: str) -> None:
    authority.issue("other")
    found = folder.mistake(f"sockets:\n  tls: {tls}\n")
    assert found.startswith(f"2: sockets.{what.format(folder=folder.path)}")


def test_the_direct_lane_has_a_socket_for_each_model(folder: Folder) -> None:
    fast = folder.load("sockets: {fast: {path: /run/edged/fast.sock, direct: true}}\n").sockets.fast
    assert fast is not None
    assert fast.direct
    assert fast.of("digits") == "/run/edged/fast.digits.sock"


def test_what_the_fast_lane_s_socket_must_not_be(folder: Folder) -> None:
    named = "sockets: {unix: /run/a.sock, fast: {path: PATH, direct: true}}\nmodels: {cam: {}}\n"
    assert folder.mistake(named.replace("PATH", "/run/a.sock")) == (
        "1: sockets.fast: /run/a.sock is in sockets.unix already"
    )
    long = f"/run/{'x' * 95}.sock"  # which fits, but for the model's name
    assert "a socket's path has at most 107 bytes" in folder.mistake(named.replace("PATH", long))
    tcp = "sockets: {fast: {path: 127.0.0.1:8082, direct: true}}\nmodels: {cam: {}}\n"
    assert "takes a UNIX socket first" in folder.mistake(tcp)


def test_the_fast_lane_is_for_this_box_alone(folder: Folder) -> None:
    assert folder.load("sockets: {fast: /run/x}\n").sockets.fast == Fast(("/run/x",))
    several = folder.load("sockets: {fast: ['unix:/run/x', '127.0.0.1:8082', '[::1]:8082', 'localhost:1']}\n")
    assert several.sockets.fast == Fast(("unix:/run/x", "127.0.0.1:8082", "[::1]:8082", "localhost:1"))
    assert folder.load("sockets: {http: 127.0.0.1:8080}\n").sockets.fast is None
    said = folder.mistake("sockets: {fast: 0.0.0.0:8082}\n")
    assert said.startswith("1: sockets.fast: 0.0.0.0 is not this box alone")
    assert "127.0.0.1:8082" in said


@pytest.mark.usefixtures("authority")
def test_a_fast_lane_over_tcp_would_be_a_way_round_the_token(folder: Folder) -> None:
    assert folder.load("sockets:\n  token_file: token\n  fast: /run/x\n").sockets.fast == Fast(("/run/x",))
    said = folder.mistake("sockets:\n  token_file: token\n  fast: [/run/x, '127.0.0.1:8082']\n")
    assert said.startswith("3: sockets.fast: 127.0.0.1:8082: the fast lane asks for no token")


@pytest.mark.parametrize(
    ("sockets", "where"),
    [
        ("unix: /run/x\n  fast: /run/x", "sockets.unix"),
        ("unix: /run/x\n  fast: 'unix:/run/x'", "sockets.unix"),
        ("http: 127.0.0.1:8080\n  fast: 127.0.0.1:8080", "sockets.http"),
        ("metrics: 127.0.0.1:8080\n  fast: 127.0.0.1:8080", "sockets.metrics"),
    ],
)
def test_the_fast_lane_has_a_place_of_its_own(folder: Folder, sockets: str, where: str) -> None:
    assert folder.mistake(f"sockets:\n  {sockets}\n").endswith(f"is in {where} already")
