"""One input from the values of several topics: each read by its own form, for a tensor of its own (RULES 16)."""

from __future__ import annotations

from collections.abc import Sequence

from edged.channel import InputHead
from edged.config.steps import Form, Preprocess
from edged.messages import unpack
from edged.tensors import Signature
from edged.worker.formats.decoded import Decoded
from edged.worker.formats.table import decode
from edged.worker.steps.prepare import Prepared, together


def decode_joined(
    forms: Sequence[Form], payload: memoryview, steps: Sequence[Preprocess], signature: Signature
) -> tuple[Decoded, Prepared]:
    """What messages.pack made, as one input; its time stamp is the newest of its values.

    Raises EdgedError as formats.table.decode and steps.prepare do.
    """
    values = [
        decode(
            forms[one.form],
            InputHead(len(one.payload), one.form, one.content_type[:64], oldest_ms=one.oldest_ms),
            memoryview(one.payload),
            signature,
        )
        for one in unpack(payload)
    ]
    stamp_ms = max((one.ts_ms for one in values if one.ts_ms is not None), default=None)
    return Decoded({}, plain=True, ts_ms=stamp_ms), together(values, steps, signature)
