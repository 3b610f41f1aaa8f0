"""What gRPC clients may take: sizes, times, numbers. No I/O."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds; most are HTTP's (rest/limits.py has what they mean).

    `header`: of one call's headers, and of the table that they refer to. `streams`: calls of one connection at a
    time, those among them that the client has given up but a model still works on. `messages`: how many of one
    stream may wait for their answers; more are left in the client's window. `window` is what a client may send of
    one call before it hears of more, `windows` of all calls of its connection. `frame` is the largest frame taken.
    `bodies` is shared by all connections. `idle_s`: how long a connection may have no call; clients make a new one
    without a word. `chatter`: frames between two sweeps that bring no call on, before it is taken for an attack.
    """

    header: int = 16 * 1024
    header_s: float = 10.0
    body_s: float = 30.0
    stall_s: float = 5.0
    connections: int = 256
    streams: int = 128
    messages: int = 16
    window: int = 1024 * 1024
    windows: int = 4 * 1024 * 1024
    frame: int = 1024 * 1024
    bodies: int = 64 * 1024 * 1024
    deadline_s: float = 10.0
    control: int = 64 * 1024
    idle_s: float = 900.0
    linger_s: float = 2.0
    net_s: float = 5.0
    sweep_s: float = 0.5
    chatter: int = 1000
