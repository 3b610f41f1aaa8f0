"""What HTTP clients may take: sizes, times, numbers. No I/O."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds; `header` to `body_s` are the numbers of RULES 21.

    `stall_s`: how long a body may bring nothing (RULES 12). `connections` is per listener. `pipeline`: how
    many requests of one connection may wait for their answers; more are left unread. `bodies`: how much of
    half-received bodies there may be on all connections together, one of the largest allowed at least; and how
    much of answers that their clients do not take, on each listener.
    `deadline_s` is for models that set none. `control` is the body limit of every address but `infer`, whose
    limit is the model's, and that of a release's chunk, which is `chunk`. `idle_s`: how long a kept-alive
    connection may rest (nginx's default). `linger_s`: how long a refused sender is still listened to, so that it
    reads why instead of a reset. `net_s`: how long after its deadline a request whose outcome never came is
    answered all the same. `sweep_s`: how often all of these times are looked at; each may be so much longer.
    """

    header: int = 16 * 1024
    header_s: float = 10.0
    body_s: float = 30.0
    stall_s: float = 5.0
    connections: int = 256
    pipeline: int = 16
    bodies: int = 64 * 1024 * 1024
    deadline_s: float = 10.0
    control: int = 64 * 1024
    chunk: int = 4 * 1024 * 1024
    idle_s: float = 75.0
    linger_s: float = 2.0
    net_s: float = 5.0
    sweep_s: float = 0.5
