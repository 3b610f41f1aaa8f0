"""A picture: the file of a JPEG or a PNG, as cameras and people send it."""

from __future__ import annotations

from edged.channel import InputHead
from edged.config.steps import Form
from edged.tensors import Signature
from edged.worker.formats.decoded import Decoded, target
from edged.worker.pictures import Picture


def decode(form: Form, head: InputHead, payload: memoryview, signature: Signature) -> Decoded:  # noqa: ARG001 - table.Decode
    """One picture, uint8 RGB [height, width, 3] to the steps; raises EdgedError bad_input."""
    spec = target(form, signature)
    picture = Picture.read(bytes(payload))
    return Decoded({}, plain=True, stepped=spec.name, picture=picture, numbers=True)
