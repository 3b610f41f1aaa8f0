"""What the commands for many boxes share: the operator's broker, the trust that judges orders, who signs them."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from edged.cli import signing
from edged.errors import EdgedError
from edged.topics import is_name

if TYPE_CHECKING:
    from edged.delivery.documents import Trust
    from edged.delivery.envelope import Envelope
    from edged.fleet.broker import Broker
    from edged.fleet.ordering import Sign
    from edged.fleet.view import Counts


@contextlib.contextmanager
def broker() -> Iterator[Broker]:
    """The broker of fleet.yaml, connected. Where there is a trust document, only orders that it counts are followed."""
    from edged.fleet import config
    from edged.fleet.broker import Broker
    from edged.fleet.trustbook import TrustBook

    settings = config.read()
    try:
        judge = counts(TrustBook(settings.trust).anchored().trust)
    except EdgedError as error:
        if error.fault.code != "no_trust":
            raise
        judge = None  # whoever looks need not hold it
    with Broker(settings.broker(), judge) as connected:
        yield connected


def counts(trust: Trust) -> Counts:
    """Which orders enough of the deploy keys have signed, in the epoch that boxes follow."""
    from edged.delivery import trust as trusts

    @lru_cache(maxsize=4096)  # a rollout looks at the same few again and again
    def judge(content: bytes) -> bool:
        try:
            return trusts.order(trust, content).document.epoch >= trust.epoch
        except EdgedError:
            return False

    return judge


def deployer(args: argparse.Namespace) -> tuple[Trust, Sign]:
    """The operator's trust document, and who signs orders by it. Raises EdgedError no_trust, bad_key."""
    from edged.fleet import config
    from edged.fleet.keyring import Keyring
    from edged.fleet.signers import missing, signed
    from edged.fleet.trustbook import TrustBook

    settings = config.read()
    trust = TrustBook(settings.trust).anchored().trust
    signers = signing.signers(args, Keyring(settings.keys), trust.roles.deploy.keyids, "the role deploy")

    def sign(envelope: Envelope) -> Envelope:
        found = signed(envelope, signers)
        if lack := missing(found, trust, "deploy"):
            hint = "`edged trust show` lists the keys of the role deploy; all that have to sign must be here."
            raise EdgedError("signature", f"{lack} more keys have to sign an order", hint)
        return found

    return trust, sign


def check_model(name: str) -> None:
    """Raises EdgedError bad_config for what cannot be a model."""
    if not is_name(name):
        raise EdgedError("bad_config", f"{name[:70]!r} is no model's name", "Letters, digits, - and _.")


def now_ms() -> int:
    return time.time_ns() // 1_000_000
