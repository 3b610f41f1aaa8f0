"""The text of a configuration to begin with: what was found on the box and of a model, a word to each line. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from edged.cli.starter.box import Surroundings
from edged.cli.starter.likely import Likely
from edged.cli.words import plain, quoted, size
from edged.tensors import Signature, TensorSpec

_WIDTH: Final = 118
_INDENT: Final = 10  # of what belongs to a step above it
_MIB: Final = 2**20
_GIB: Final = 2**30
_DEFAULT_MEMORY: Final = 256 * _MIB
_LOW: Final = 1.1 * _GIB  # a board of 1 GiB, of which the kernel keeps some: two versions at once may not fit it
_PAYLOADS: Final = {
    "picture": ("picture", "image", "a JPEG or PNG file"),
    "values": (
        "values",
        "values",
        "a JSON list, or numbers in plain text; with `field: NAME` a member of a JSON object",
    ),
    "raw": ("tensor", "raw", "the numbers' own bytes, little-endian, one after another"),
}


class Section(msgspec.Struct, frozen=True):
    """A model as it is written: its name, its file, what it takes and gives, and what it is likely meant for.

    `memory`: what its process was given, in bytes. `run_ms` 0: not measured. `labels`: the file of names beside it.
    """

    name: str
    file: str
    signature: Signature
    likely: Likely
    memory: int = _DEFAULT_MEMORY
    run_ms: float = 0.0
    labels: str = ""

    def bare(self, why: str) -> Section:
        """Without steps: what was likely does not fit the model."""
        note = f"the steps that its inputs and outputs suggest do not fit it, and are left out: {why}"
        return msgspec.structs.replace(self, likely=Likely("tensors", self.likely.about, notes=(note,)))


def whole(around: Surroundings, section: Section | None, *, asked: bool) -> str:
    """The whole file. `asked`: somebody named the broker, so that it is written even where it does not answer."""
    with_broker = around.broker.there or asked
    lines = [*_head(around, section), *_broker(around, with_broker=with_broker), ""]
    if around.memory < _LOW:
        lines += ["# Little memory: the old version of a model is ended before the new one is started.", _SWAP, ""]
    lines.append("models:")
    lines += _no_model() if section is None else _model(section, around, with_broker=with_broker)
    return "\n".join([*lines, "", *_push(), ""])


_SWAP: Final = "defaults: {swap: stop_start}"


def _head(around: Surroundings, section: Section | None) -> Iterator[str]:
    of = f" of {plain(section.file)}" if section else ""
    yield from _comment(
        f"The configuration of edged: a beginning, made by `edged init`{of}. Every other key is explained in the "
        "documentation (docs/configuration.md, configs/edged.yaml). After a change: edged check"
    )
    yield "#"
    onnxruntime = f"onnxruntime {around.onnxruntime} for {', '.join(around.providers)}"
    yield from _comment(
        f"This box: {around.cores} core{'s' * (around.cores != 1)}, {size(around.memory)} of memory, {onnxruntime}."
    )
    yield ""
    yield "# This box's name in topics. Default: the host name in lower case."
    yield "#device: press-07"
    yield ""


def _broker(around: Surroundings, *, with_broker: bool) -> Iterator[str]:
    broker = around.broker
    if not with_broker:
        yield f"# No broker answers at {broker.url}. Without one edged serves its sockets alone; with one:"
        yield "#mqtt:"
        yield f"  #url: {quoted(broker.url)}"
        return
    if broker.refused:
        yield from _comment(f"This broker is there, and lets nobody in like that: {plain(broker.refused)}")
    elif broker.there:
        yield f"# This broker answers, in MQTT {broker.version}."
    else:
        yield "# This broker did not answer just now; edged tries again and again."
    yield "mqtt:"
    yield f"  url: {quoted(broker.url)}"
    yield "  #username: press-07"
    yield "  #password_file: mqtt-password   # beside this file, with nothing but the password in it"


def _model(section: Section, around: Surroundings, *, with_broker: bool) -> Iterator[str]:
    likely, name = section.likely, section.name
    signature = section.signature
    yield from _comment(
        f"{', '.join(map(_tensor, signature.inputs))} -> {', '.join(map(_tensor, signature.outputs))}"
        + (f"; a run takes {section.run_ms:.3g} ms here, with one thread" if section.run_ms else ""),
        "  ",
    )
    yield f"  {name}:"
    yield f"    file: {quoted(section.file)}"
    yield f"    #threads: 1   # `edged tune {name}` measures what more of them, and batches, bring on this box"
    if "cuda" in around.providers:
        yield "    #providers: [cuda, cpu]   # docs/install.md, GPUs, says for which models that pays"
    yield from _comment(f"It takes {likely.about}.", "    ")
    yield from _inputs(section, with_broker=with_broker)
    yield from _steps("preprocess", likely.before, likely.before_why)
    yield from _steps("postprocess", _after(section), likely.after_why)
    for note in likely.notes:
        yield from _comment(f"{note[:1].upper()}{note[1:]}.", "    ")
    if likely.kind in _PAYLOADS:
        yield f'    {"" if with_broker else "#"}output: {{topic: "{name}/{{source}}/result"}}'
    if likely.kind == "picture":
        yield "    #queue: {size: 4, overflow: drop-oldest}   # where the newest picture counts, not each"
    if section.memory != _DEFAULT_MEMORY:
        yield f"    limits: {{memory: {section.memory // _MIB}MiB}}   # the usual 256MiB are too little for it"


def _inputs(section: Section, *, with_broker: bool) -> Iterator[str]:
    name, kind = section.name, section.likely.kind
    if kind not in _PAYLOADS:
        yield from _comment(
            f"Ask it with its own tensors: `edged infer {name} --input NAME=FILE.npy ...`, or a request of the Open "
            f"Inference Protocol, over HTTP and on edged/<device>/models/{name}/infer.",
            "    ",
        )
        if kind == "several":
            yield "    # Or feed each from a topic of its own; it runs when all have a new value of the same source:"
            yield "    #inputs:"
            for spec in section.signature.inputs:
                yield f'      #- {{topic: "{name}/+source/{_level(spec.name)}", tensor: {quoted(spec.name)}}}'
        return
    level, form, what = _PAYLOADS[kind]
    off = "" if with_broker else "#"
    open_ = f"`edged infer {name} FILE`, HTTP and edged/<device>/models/{name}/infer work besides"
    yield from _comment(f"Each payload is {what}. ({open_}.)", "    ")
    yield f"    {off}inputs:"
    yield f'      {off}- topic: "{name}/+source/{level}"   # +source: any level, which output.topic calls {{source}}'
    yield f"        {off}format: {form}"


def _steps(key: str, steps: Sequence[str], why: str) -> Iterator[str]:
    if not steps:
        return
    yield from _comment(f"{why[:1].upper()}{why[1:]}.", "    ")
    yield f"    {key}:"
    yield from (f"      - {step}" for step in steps)


def _after(section: Section) -> list[str]:
    """The steps after the run, with names where there are some."""
    steps = list(section.likely.after)
    if not steps:
        return []
    if section.likely.labels:
        steps.append(f"labels: [{_list(section.likely.labels)}]")
    elif section.labels:
        steps.append(f"labels: {quoted(section.labels)}")
    return [*steps, "round: 4"]


def _list(names: Sequence[str]) -> str:
    """The names on as many lines as they take; none is broken, as what is between its words is its own."""
    lines = [""]
    for name in map(quoted, names):
        if lines[-1] and len(lines[-1]) + len(name) > _WIDTH - _INDENT:
            lines.append("")
        lines[-1] += f"{name}, "
    return f"\n{' ' * _INDENT}".join(line.rstrip() for line in lines).removesuffix(",")


def _no_model() -> Iterator[str]:
    yield "  # A model: its name, and its file. `edged init FILE.onnx` writes all that the file tells."
    yield "  #digits:"
    yield "    #file: /usr/share/edged/digits.onnx   # without a file it waits for its first push"


def _push() -> Iterator[str]:
    yield "# Models that arrive over MQTT."
    yield "push:"
    yield "  # Whose signatures count: the file that `edged trust init` makes. Without one, signed pushes are refused."
    yield "  #trust: trust.json"
    yield "  # false lets whoever may publish there replace a model by a bare .onnx file: good to try it, and no more."
    yield "  #require_signature: true"


def _tensor(spec: TensorSpec) -> str:
    names = spec.axes or ("",) * len(spec.shape)
    sides = (str(side) if side >= 0 else name or "?" for side, name in zip(spec.shape, names, strict=True))
    return plain(f"{spec.name} {spec.datatype}[{', '.join(sides)}]")


def _level(name: str) -> str:
    """A tensor's name as a level of a topic."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)


def _comment(words: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        plain(words), _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False
    )
