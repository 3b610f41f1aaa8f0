"""Workers that have gone over to the other side: each loads as any other, then does one thing that it must not."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from edged import channel
from edged.channel import AnswerHead, Answers, Message, Ready, Refused
from edged.errors import Fault
from edged.rings import SLOTS, Ring
from edged.worker import golden, main


class Anywhere(Ring):
    """Takes every slot for one that it may write."""

    def __init__(self) -> None:
        pass

    def write(self, slot: int, payloads: object) -> None:
        pass


def _serve(sock: socket.socket, slot: int) -> None:
    """The worker's own loop, which says of every answer that it is in this slot."""
    honest = channel.send

    def send(sock: socket.socket, message: Message, payloads: Any = (), *, ring: Ring | None = None) -> None:
        if isinstance(message, Answers):
            message, ring = msgspec.structs.replace(message, place=slot), Anywhere()
        honest(sock, message, payloads, ring=ring)

    channel.send = send  # type: ignore[assignment]  # in this process alone
    main.serve(sock)


def never_loads(_sock: socket.socket, _candidate: bool) -> None:
    while True:
        signal.pause()


def answers_in_a_slot_it_was_not_given(sock: socket.socket, _candidate: bool) -> None:
    _serve(sock, SLOTS - 1)


def answers_outside_its_ring(sock: socket.socket, _candidate: bool) -> None:
    _serve(sock, SLOTS)


def cuts_its_rings(sock: socket.socket, _candidate: bool) -> None:
    """Tries to: then every touch of a slot would end the daemon by SIGBUS."""
    attach = Ring.attach.__func__  # type: ignore[attr-defined]

    def cutting(cls: type[Ring], descriptor: int, *, writer: bool) -> Ring:
        ring: Ring = attach(cls, descriptor, writer=writer)
        try:
            os.ftruncate(descriptor, 0)
        except PermissionError:
            return ring
        raise SystemExit("it could cut its ring")

    Ring.attach = classmethod(cutting)  # type: ignore[assignment,method-assign]
    main.serve(sock)


def _says(change: Callable[[Message], Message]) -> None:
    """Every message of this process goes through `change`."""
    honest = channel.send

    def send(sock: socket.socket, message: Message, payloads: Any = (), *, ring: Ring | None = None) -> None:
        changed = change(message)
        honest(sock, changed, payloads if changed is message else (), ring=ring)

    channel.send = send  # type: ignore[assignment]  # in this process alone


def refuses_with_a_code_of_its_own(sock: socket.socket, _candidate: bool) -> None:
    _says(lambda message: Refused(Fault("unheard_of", "", "")) if isinstance(message, Ready) else message)
    main.serve(sock)


def blames_a_novel(sock: socket.socket, _candidate: bool) -> None:
    _says(lambda one: Refused(Fault("bad_config", ""), "x" * 10_000) if isinstance(one, Ready) else one)
    main.serve(sock)


def stacks_nothing(sock: socket.socket, _candidate: bool) -> None:
    """Batches of 0 inputs: whoever filled them would never end."""
    _says(lambda one: msgspec.structs.replace(one, batch_max=0) if isinstance(one, Ready) else one)
    main.serve(sock)


def runs_on_a_novel(sock: socket.socket, _candidate: bool) -> None:
    """What it runs on becomes a status, retained on the broker."""
    _says(lambda one: msgspec.structs.replace(one, fallback="x" * 10_000) if isinstance(one, Ready) else one)
    main.serve(sock)


def answers_nothing(sock: socket.socket, _candidate: bool) -> None:
    """No fault, and no answer."""
    _says(lambda one: Answers(one.number, tuple(AnswerHead(0) for _ in one.heads)) if isinstance(one, Answers) else one)
    main.serve(sock)


def says_of_its_golden_answers(found: bytes, sock: socket.socket, _candidate: bool) -> None:
    """Answers each golden input with these bytes, whatever the model does."""

    class Golden:
        def __init__(self, _model: object) -> None:
            """It needs no model to know."""

        def compare(self, _asked: object) -> msgspec.Raw:
            return msgspec.Raw(found)

    golden.Golden = Golden  # type: ignore[assignment,misc]  # in this process alone
    main.serve(sock)
