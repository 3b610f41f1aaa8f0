"""The service under a real systemd: what it says, what ends and returns, what a reload and an upgrade leave alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import hungry
from tests.system.machines import Machine
from tests.system.service import (
    CONFIGURATION,
    MOST_EXPOSED,
    SCAN,
    ask,
    entries,
    exposure,
    main_process,
    models,
    show,
    worker,
)

MOST_EXPOSED_WITH_DEVICES = 2.0  # drop-ins that let devices in


def test_it_says_what_runs(machine: Machine) -> None:
    assert show(machine, "Type") == "notify"
    assert show(machine, "ActiveState") == "active"
    machine.wait(lambda: show(machine, "StatusText") == "digits 1 serving")
    assert machine.says("stat -c '%U %a' /run/edged /var/lib/edged /run/edged/edged.sock").split("\n") == [
        "edged 750",
        "edged 750",
        "edged 660",
    ]
    assert machine.says(f"stat -c %U /proc/{main_process(machine)}") == "edged"


def test_its_unit_is_clean_and_as_closed_as_promised(machine: Machine) -> None:
    assert machine.says("systemd-analyze verify --man=no edged.service 2>&1") == ""
    assert exposure(machine) <= MOST_EXPOSED


def test_a_damaged_package_can_be_taken_away(machine: Machine) -> None:
    """As apt does before it removes or replaces it; a lost folder would keep it from both."""
    machine.run("mv /opt/edged/lib /opt/edged/lost")
    done = machine.run("sh /var/lib/dpkg/info/edged.prerm upgrade 0.2.0", check=False)
    machine.run("mv /opt/edged/lost /opt/edged/lib")
    assert done.returncode == 0, done.stderr


def test_the_journal_has_fields(machine: Machine) -> None:
    machine.run("systemctl restart edged")  # its process has ended, so there is something to tell of it
    (entry, *_) = entries(machine, "MODEL=digits")
    assert (entry["MODEL"], entry["VERSION"], entry["SYSLOG_IDENTIFIER"]) == ("digits", "1", "edged")
    assert entry["MESSAGE"].startswith("digits: ")
    machine.run("curl -s --unix-socket /run/edged/edged.sock http://box/v2/models/digits/infer -d '{\"inputs\": 3}'")
    assert machine.says("journalctl -u edged -p err --no-pager -q") == ""


def test_the_socket_is_for_its_group(machine: Machine) -> None:
    machine.run("useradd -m stranger && useradd -m -G edged friend")
    for command in ("status", "log"):
        done = machine.run(f"runuser -u stranger -- edged {command}", check=False)
        assert done.returncode == 1
        assert "[forbidden]" in done.stderr
        assert "usermod -aG edged $USER" in done.stderr
    assert "digits" in machine.says("runuser -u friend -- edged status")
    assert "has started" in machine.says("runuser -u friend -- edged log")
    told = machine.run("runuser -u friend -- edged doctor", check=False).stdout
    assert f"ok    configuration  {CONFIGURATION} is valid" in told  # the service's, as friend has none
    done = machine.run("runuser -u friend -- edged rollback digits", check=False)
    assert "forbidden" in done.stderr


def test_a_worker_that_is_ended_costs_one_start_and_not_the_service(machine: Machine) -> None:
    before, restarts = main_process(machine), show(machine, "NRestarts")
    machine.run(f"kill -KILL {worker(machine)}")
    assert ask(machine) == "three"
    assert (main_process(machine), show(machine, "NRestarts")) == (before, restarts)


def test_a_stop_leaves_systemd_nothing_to_kill(machine: Machine) -> None:
    machine.run("systemctl stop edged")
    told = machine.journal("-u edged -n 20")
    assert "Deactivated successfully" in told
    assert "SIGKILL" not in told.rpartition("Stopping")[2]
    machine.run("systemctl start edged")
    assert ask(machine) == "three"


def test_a_hung_model_is_not_a_hung_daemon(machine: Machine) -> None:
    """The run's limit ends the model's process; the watchdog is fed all the while."""
    before = main_process(machine)
    machine.run(f"kill -STOP {worker(machine)}")
    assert ask(machine, 40) == "three"
    assert main_process(machine) == before


def test_a_blocked_loop_is_restarted(machine: Machine) -> None:
    machine.write(
        "/etc/systemd/system/edged.service.d/soon.conf",
        "[Service]\nWatchdogSec=2\nTimeoutAbortSec=2\nRestartSec=100ms\n",
    )
    machine.run("systemctl daemon-reload && systemctl restart edged")
    before = main_process(machine)
    machine.run(f"kill -STOP {before}")
    machine.wait(lambda: main_process(machine) not in (0, before))
    assert "Watchdog timeout" in machine.journal("-u edged -n 100")
    assert ask(machine) == "three"
    machine.run("rm -r /etc/systemd/system/edged.service.d && systemctl daemon-reload && systemctl restart edged")


@pytest.fixture
def configuration(machine: Machine) -> Any:
    """What it says; put back afterwards."""
    found = machine.says(f"cat {CONFIGURATION}")
    yield found
    machine.write(CONFIGURATION, found + "\n")
    machine.run("systemctl reload edged")


def test_a_reload_adds_a_model_and_changes_a_queue_without_losing_an_input(
    machine: Machine, configuration: str
) -> None:
    count = 200
    listener = machine.start(f"mosquitto_sub -q 1 -t cells/+/digit -C {count} -W 60 | wc -l")
    sender = machine.start(
        f"""sleep 0.5; for i in $(seq {count}); do echo '{SCAN}'; sleep 0.01; done |
        mosquitto_pub -q 1 -l -t cells/9/scan"""
    )
    section = configuration[configuration.index("  # Handwritten") :]
    other = (
        section.replace("  digits:", "  other:")
        .replace("cells/+cell/scan", "more/+cell/scan")
        .replace("cells/{cell}", "more/{cell}")
    )
    machine.write(CONFIGURATION, f"{configuration}\n    queue: {{size: 500}}\n{other}\n")
    machine.run("systemctl reload edged")
    assert sender.communicate(timeout=60)[0] == ""
    assert listener.communicate(timeout=90)[0].strip() == str(count)
    status = json.loads(machine.says("edged status --json"))
    assert [(one["name"], one["state"]) for one in status["models"]] == [("digits", "serving"), ("other", "serving")]


def test_a_broken_file_is_refused_and_systemctl_says_so(machine: Machine, configuration: str) -> None:
    before = main_process(machine)
    machine.write(CONFIGURATION, configuration.replace("field: pixels", "feeld: pixels"))
    done = machine.run("systemctl reload edged", check=False)
    assert done.returncode != 0
    assert "did you mean field?" in machine.journal()
    assert ask(machine) == "three"
    assert main_process(machine) == before


# One that takes what it is asked to; with more than the service has, and with less.
HUNGRY = """
  hungry: {file: /etc/edged/hungry.onnx, limits: {memory: 4GiB, run: 60s}}
  bounded: {file: /etc/edged/hungry.onnx, limits: {memory: 64MiB, run: 60s}}
"""


def fed(machine: Machine, model: str) -> dict[str, Any]:
    """What it says when it is asked for 600 MB."""
    body = json.dumps({"inputs": [{"name": "given", "shape": [1], "datatype": "INT64", "data": [150_000_000]}]})
    place = f"http://box/v2/models/{model}/infer"
    found: dict[str, Any] = json.loads(
        machine.says(f"curl -s -m 100 --unix-socket /run/edged/edged.sock {place} -d '{body}'")
    )
    return found


@pytest.fixture
def drop_in(machine: Machine) -> Iterator[str]:
    """A folder for drop-ins of the unit; gone afterwards, as is what they did."""
    folder = "/etc/systemd/system/edged.service.d"
    machine.run(f"mkdir -p {folder}")
    yield folder
    machine.run(f"rm -r {folder}; systemctl daemon-reload; systemctl restart edged")


def oom_score(machine: Machine, process: int) -> int:
    """What the kernel adds to a process's badness when memory is asked back."""
    return int(machine.says(f"cat /proc/{process}/oom_score_adj"))


def test_the_service_starts_with_each_drop_in(machine: Machine, drop_in: str) -> None:
    """No camera, no GPU and no serial port is here: what a drop-in opens may be missing."""
    names = machine.says("cd /usr/share/edged/drop-ins; echo *").split()
    assert names == ["camera.conf", "cuda.conf", "low-memory.conf", "serial.conf"]
    for name in names:
        machine.run(f"cp /usr/share/edged/drop-ins/{name} {drop_in}; systemctl daemon-reload; systemctl restart edged")
        assert ask(machine) == "three"
        assert machine.says("systemd-analyze verify --man=no edged.service 2>&1") == ""
        assert exposure(machine) <= MOST_EXPOSED_WITH_DEVICES
        if name == "low-memory.conf":
            assert exposure(machine) <= MOST_EXPOSED
            assert [show(machine, key) for key in ("MemorySwapMax", "TasksMax", "OOMScoreAdjust")] == [
                "0",
                "64",
                "-100",
            ]
            assert oom_score(machine, main_process(machine)) < oom_score(machine, worker(machine))
        machine.run(f"rm {drop_in}/{name}")


def test_the_kernel_takes_memory_back_from_the_model_that_took_it(
    machine: Machine, configuration: str, drop_in: str, tmp_path: Path
) -> None:
    """Its process ends, and nothing else: neither the service nor another model, which loses no input."""
    (tmp_path / "hungry.onnx").write_bytes(hungry())
    machine.put(tmp_path / "hungry.onnx", "/etc/edged/hungry.onnx")
    machine.write(f"{drop_in}/little.conf", "[Service]\nMemoryMax=300M\nMemorySwapMax=0\n")
    machine.write(CONFIGURATION, f"{configuration}\n{HUNGRY}\n")
    machine.run("systemctl daemon-reload; systemctl restart edged")
    before, restarts, other = main_process(machine), show(machine, "NRestarts"), worker(machine)
    count = 100
    listener = machine.start(f"mosquitto_sub -q 1 -t cells/+/digit -C {count} -W 60 | wc -l")
    sender = machine.start(
        f"""sleep 0.5; for i in $(seq {count}); do echo '{SCAN}'; sleep 0.02; done |
        mosquitto_pub -q 1 -l -t cells/9/scan"""
    )
    assert [fed(machine, name)["code"] for name in ("hungry", "bounded")] == ["poison_input", "over_memory"]
    assert sender.communicate(timeout=60)[0] == ""
    assert listener.communicate(timeout=90)[0].strip() == str(count)
    assert (main_process(machine), show(machine, "NRestarts"), worker(machine)) == (before, restarts, other)
    machine.wait(lambda: [one["state"] for one in models(machine)] == ["serving"] * 3)
    said = entries(machine, "MODEL=hungry")
    assert [entry["CODE"] for entry in said if "CODE" in entry] == ["poison_input"]
    assert [
        entry["MESSAGE"]
        for entry in said
        if "by signal 9, perhaps by the kernel, which has killed for want of memory" in entry["MESSAGE"]
    ]
    machine.run("rm /etc/edged/hungry.onnx")


def test_a_password_is_a_credential_that_only_systemd_can_read(machine: Machine, configuration: str) -> None:
    machine.write("/etc/mosquitto/conf.d/users.conf", "listener 1884 127.0.0.1\npassword_file /etc/mosquitto/users\n")
    machine.write("/etc/edged/mqtt-password", "secret")
    machine.write(
        "/etc/systemd/system/edged.service.d/password.conf",
        "[Service]\nLoadCredential=mqtt-password:/etc/edged/mqtt-password\n",
    )
    machine.write(
        CONFIGURATION,
        configuration.replace(
            "url: mqtt://127.0.0.1:1883",
            "url: mqtt://127.0.0.1:1884\n  username: press-07\n  password_file: mqtt-password",
        ),
    )
    machine.run(
        """chmod 600 /etc/edged/mqtt-password; mosquitto_passwd -b -c /etc/mosquitto/users press-07 secret
        chown mosquitto /etc/mosquitto/users; systemctl restart mosquitto
        systemctl daemon-reload; systemctl restart edged"""
    )
    machine.wait(lambda: "1884" in machine.says("edged status") and "connected to" in machine.says("edged status"))
    machine.run(
        """rm -r /etc/systemd/system/edged.service.d /etc/mosquitto/conf.d/users.conf
        systemctl daemon-reload; systemctl restart mosquitto"""
    )
    machine.write(CONFIGURATION, configuration)
    machine.run("systemctl restart edged")
    assert ask(machine) == "three"


def test_doctor_sees_the_box_as_its_service_does(machine: Machine, configuration: str, drop_in: str) -> None:
    """What root alone may read, what the unit's environment says, and a service that does not start."""

    def told(what: str) -> list[tuple[str, str]]:
        found = json.loads(machine.run("edged doctor --json", check=False).stdout)
        return [(one["level"], one["said"]) for one in found if one["what"] == what]

    machine.write("/root/mqtt-password", "secret")
    given = "LoadCredential=mqtt-password:/root/mqtt-password\nEnvironment=BROKER=127.0.0.1"
    machine.write(f"{drop_in}/given.conf", f"[Service]\n{given}\n")
    placed = 'url: "mqtt://${BROKER}:1883"\n  username: press-07\n  password_file: mqtt-password'
    machine.write(CONFIGURATION, configuration.replace("url: mqtt://127.0.0.1:1883", placed))
    machine.run("systemctl daemon-reload; systemctl restart edged; edged check; edged acl")
    assert told("configuration")[0][0] == told("broker")[0][0] == "ok"
    assert told("permissions") == [("ok", "/run/edged/edged.sock is for edged and the group edged")]
    machine.run(f"rm {drop_in}/given.conf; systemctl daemon-reload")

    machine.write(CONFIGURATION, configuration)
    machine.run(f"chown root: {CONFIGURATION}; chmod 600 {CONFIGURATION}")
    assert machine.run("systemctl restart edged", check=False).returncode != 0
    assert told("service") == [("bad", "it has failed: exit-code")]
    assert ("bad", f"{CONFIGURATION} cannot be read by edged's service") in told("permissions")
    machine.run(f"chmod 644 {CONFIGURATION}; systemctl restart edged; rm /root/mqtt-password")
    assert told("service") == []


def test_a_stop_is_clean_and_told(machine: Machine) -> None:
    machine.run("systemctl stop edged")
    assert show(machine, "Result") == "success"
    assert machine.says("mosquitto_sub -t edged/press-07/status -C 1 -W 10") == "offline"
    machine.run("systemctl start edged")
    assert machine.says("mosquitto_sub -t edged/press-07/status -C 1 -W 10") == "online"


def test_the_plug_is_pulled(machine: Machine) -> None:
    machine.cut()
    machine.boot()
    machine.wait(lambda: show(machine, "ActiveState") == "active")
    assert ask(machine) == "three"
