"""The Open Inference Protocol's infer request: JSON, raw tensors behind it, or one raw tensor alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final, NoReturn

import msgspec

from edged.channel import InputHead
from edged.config.steps import Form
from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec
from edged.worker.formats import elements
from edged.worker.formats.decoded import NO_CLASSES, NOTHING, Array, Decoded, bad_input, target

_PROTOCOL: Final = "docs/http-api.md has what a request may be and ask for."
_NO_REGION: Final = "Register it first, over HTTP or gRPC and on this box, or send the tensor in the request."
_NAMES: Final = "`edged inspect`, or the model's metadata, lists its inputs and outputs."


# A size that fits int64, as the protocol's do; so a product of 32 of them can still be printed.
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _InputParameters(msgspec.Struct, frozen=True):
    binary_data_size: _Size | None = None
    shared_memory_region: str | None = None


class _OutputParameters(msgspec.Struct, frozen=True):
    binary_data: bool | None = None
    classification: _Size | None = None
    shared_memory_region: str | None = None


class _RequestParameters(msgspec.Struct, frozen=True):
    binary_data_output: bool = False
    steps: bool = False


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    shape: Annotated[list[_Size], msgspec.Meta(max_length=32)]
    datatype: str
    parameters: _InputParameters | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Wanted(msgspec.Struct, frozen=True):
    name: str
    parameters: _OutputParameters | None = None


class _Request(msgspec.Struct, frozen=True):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_Wanted] | None = None


_REQUEST: Final = msgspec.json.Decoder(_Request)
_NO_INPUT_PARAMETERS: Final = _InputParameters()
_NO_OUTPUT_PARAMETERS: Final = _OutputParameters()
_NO_PARAMETERS: Final = _RequestParameters()


def decode(form: Form, head: InputHead, payload: memoryview, signature: Signature) -> Decoded:
    """An infer request's tensors, checked against the signature; raises EdgedError bad_input.

    With the request parameter `steps`, the tensor that preprocess works on may have another shape and
    datatype than the model's input.
    """
    if head.json_length == 0:
        return _raw_body(form, head, payload, signature)
    request = _parse(head.json_length, payload)
    parameters = request.parameters or _NO_PARAMETERS
    stepped = stepped_of(form, signature) if parameters.steps else ""
    requested, binary, classes = _wanted(request.outputs, signature, all_binary=parameters.binary_data_output)
    return Decoded(
        _tensors(request.inputs, head.json_length, payload, signature, stepped),
        plain=False,
        stepped=stepped,
        id=request.id or "",
        requested=requested,
        binary=binary if head.binary else NOTHING,
        steps=parameters.steps,
        classes=classes,
    )


def _parse(json_length: int, payload: memoryview) -> _Request:
    if json_length > len(payload):
        raise bad_input(
            f"Inference-Header-Content-Length is {json_length}, the body has {len(payload)} bytes",
            "It is the length in bytes of the JSON before the raw tensors.",
        )
    try:
        return _REQUEST.decode(payload[:json_length] if json_length > 0 else payload)
    except msgspec.ValidationError as error:
        raise bad_input(f"the request: {error}", _PROTOCOL) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_input(f"the request is not JSON: {error}", _PROTOCOL) from error
    except RecursionError as error:
        raise bad_input("the request's JSON is nested too deep", _PROTOCOL) from error


def stepped_of(form: Form, signature: Signature) -> str:
    """The tensor that preprocess works on; "" where the model has several and none is named."""
    return target(form, signature).name if form.tensor or len(signature.inputs) == 1 else ""


def _tensors(
    given: list[_Tensor], json_length: int, payload: memoryview, signature: Signature, stepped: str
) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    start = json_length if json_length > 0 else len(payload)
    for tensor in given:
        name = tensor.name
        if name in tensors:
            raise given_twice(name)
        check_fits(tensor.datatype, tensor.shape, spec_of(name, signature), stepped)
        parameters = tensor.parameters or _NO_INPUT_PARAMETERS
        size = parameters.binary_data_size
        if parameters.shared_memory_region is not None:
            raise no_region(f"input {name}", parameters.shared_memory_region)
        if (size is None) is (len(tensor.data) == 0):
            _neither_or_both(name, both=size is not None)
        if size is None:
            tensors[name] = elements.from_json(tensor.data, name, tensor.datatype, tensor.shape)
            continue
        if json_length < 0 or start + size > len(payload):
            _too_short(name, size, len(payload) - start, json_length)
        tensors[name] = elements.from_bytes(payload[start : start + size], name, tensor.datatype, tensor.shape)
        start += size
    if start != len(payload):
        raise bad_input(f"{len(payload) - start} bytes are left after the last input", "Give its binary_data_size.")
    check_whole(tensors, signature)
    return tensors


def given_twice(name: str) -> EdgedError:
    return bad_input(f"input {name} is there twice")


def no_region(tensor: str, region: str) -> EdgedError:
    """The daemon has brought in every region that there is for whoever asks."""
    return bad_input(f"{tensor}: there is no shared memory region {region[:80]!r}", _NO_REGION)


def check_whole(names: Collection[str], signature: Signature) -> None:
    """Raises EdgedError bad_input unless so many inputs, each named once, are all that the model has."""
    if len(names) != len(signature.inputs):
        missing = ", ".join(str(spec) for spec in signature.inputs if spec.name not in names)
        raise bad_input(f"missing input: {missing}", _NAMES)


def check_asked(names: Sequence[str], signature: Signature) -> None:
    """Raises EdgedError bad_input unless the outputs named are the model's, and each is named once."""
    known = {spec.name for spec in signature.outputs}
    for name in names:
        if name not in known:
            raise bad_input(f"the model has no output {name[:80]!r}, only {', '.join(sorted(known))}", _NAMES)
        if names.count(name) > 1:
            raise bad_input(f"output {name} is asked for twice")


def places(json_length: int, payload: memoryview) -> list[tuple[str, str, tuple[int, ...], int, int]] | None:
    """Where the tensors of a request lie that `decode` has read: name, datatype, shape, first byte and bytes of each.

    None when one is in its JSON.
    """
    found, start = [], json_length
    for tensor in _parse(json_length, payload).inputs:
        size = tensor.parameters.binary_data_size if tensor.parameters is not None else None
        if size is None:
            return None
        found.append((tensor.name, tensor.datatype, tuple(tensor.shape), start, size))
        start += size
    return found


def spec_of(name: str, signature: Signature) -> TensorSpec:
    """The model's input of that name. Raises EdgedError bad_input."""
    for spec in signature.inputs:
        if spec.name == name:
            return spec
    names = ", ".join(str(spec) for spec in signature.inputs)
    raise bad_input(f"the model has no input {name[:80]!r}, only {names}", _NAMES)


def check_fits(datatype: str, shape: Sequence[int], spec: TensorSpec, stepped: str) -> None:
    """Raises EdgedError bad_input unless a tensor is what the model takes, or the one that preprocess works on."""
    if stepped == spec.name:
        if datatype not in elements.DTYPES:
            raise bad_input(f"input {spec.name}: there is no datatype {datatype[:40]!r}")
        return
    if datatype != spec.datatype:
        raise bad_input(f"input {spec.name} is {spec.datatype}, the request says {datatype[:40]}")
    fits = len(shape) == len(spec.shape)
    for axis, size in zip(spec.shape, shape, strict=False):
        fits = fits and axis in (-1, size)
    if not fits:
        raise bad_input(
            f"input {spec.name} has shape {list(spec.shape)}, the request says {list(shape)}",
            "-1 stands for any size; the other sizes and their number must be the model's.",
        )


def _neither_or_both(name: str, *, both: bool) -> NoReturn:
    found = "both `data` and" if both else "neither `data` nor"
    raise bad_input(f"input {name} has {found} binary_data_size", "Exactly one of them says where its values are.")


def _too_short(name: str, size: int, left: int, json_length: int) -> NoReturn:
    if json_length < 0:
        raise bad_input(
            f"input {name} is binary, but the length of the JSON is not known",
            "Send the header Inference-Header-Content-Length.",
        )
    raise bad_input(f"input {name}: its binary_data_size is {size}, the body has {left} bytes left")


def _wanted(
    outputs: list[_Wanted] | None, signature: Signature, *, all_binary: bool
) -> tuple[tuple[str, ...] | None, frozenset[str], Mapping[str, int]]:
    """Which outputs are asked for (None: all), which of them as raw bytes, and of which so many classes."""
    if not outputs:
        return None, frozenset(spec.name for spec in signature.outputs) if all_binary else NOTHING, NO_CLASSES
    names = [wanted.name for wanted in outputs]
    check_asked(names, signature)
    binary: set[str] = set()
    classes: dict[str, int] = {}
    for wanted in outputs:
        parameters = wanted.parameters or _NO_OUTPUT_PARAMETERS
        if parameters.shared_memory_region is not None:
            raise no_region(f"output {wanted.name}", parameters.shared_memory_region)
        if parameters.classification:
            check_classes(wanted.name, signature)
            classes[wanted.name] = parameters.classification
        if parameters.binary_data or (all_binary and parameters.binary_data is None):
            binary.add(wanted.name)
    return tuple(names), frozenset(binary), classes


def check_classes(name: str, signature: Signature) -> None:
    """Raises EdgedError bad_input for an output, one of the model's, that has no classes."""
    spec = next(spec for spec in signature.outputs if spec.name == name)
    if spec.datatype in ("BOOL", "BYTES"):
        hint = "Leave `classification` out, or ask for an output with numbers."
        raise bad_input(f"output {spec.name} is {spec.datatype}: classification takes numbers", hint)


def _raw_body(form: Form, head: InputHead, payload: memoryview, signature: Signature) -> Decoded:
    """A header length of 0: the body is the only input's raw bytes; every output comes back binary.

    A BYTES input takes the whole body as its one element.
    """
    spec = target(form, signature)
    if len(signature.inputs) != 1:
        raise bad_input(f"a raw body is one tensor, the model has {len(signature.inputs)} inputs")
    binary = frozenset(output.name for output in signature.outputs) if head.binary else NOTHING
    if spec.datatype == "BYTES":
        return Decoded({spec.name: _one_string(payload, spec)}, plain=False, binary=binary)
    sizes = spec.shape
    if sizes.count(-1) == 2 and sizes[0] == -1:  # one row, as with Triton
        sizes = (1, *sizes[1:])
    if sizes.count(-1) > 1:
        raise bad_input(f"a raw body cannot tell the shape of {spec}", "Send an Open Inference Protocol request.")
    row = elements.DTYPES[spec.datatype].itemsize
    for axis in sizes:
        row *= 1 if axis == -1 else axis
    found = len(payload) // row if row else 0
    shape = tuple(found if axis == -1 else axis for axis in sizes)
    tensor = elements.from_bytes(payload, spec.name, spec.datatype, shape)
    return Decoded({spec.name: tensor}, plain=False, binary=binary)


def _one_string(payload: memoryview, spec: TensorSpec) -> Array:
    if any(axis not in (-1, 1) for axis in spec.shape):
        raise bad_input(f"a raw body is one string, {spec} takes more", "Send an Open Inference Protocol request.")
    data = len(payload).to_bytes(4, "little") + payload
    return elements.from_bytes(memoryview(data), spec.name, "BYTES", [1] * len(spec.shape))
