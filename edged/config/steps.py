"""The options of every pre- and post-processing step and of every input form.

Values that the configuration is checked into and that travel to the worker; the functions that use
them live in worker/steps/ and worker/formats/. Shapes are without the batch axis.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Scale(msgspec.Struct, frozen=True, tag="scale"):
    """x * k."""

    k: float


class Normalize(msgspec.Struct, frozen=True, tag="normalize"):
    """(x - mean) / std; one number, or one per channel (the first axis after the batch)."""

    mean: tuple[float, ...]
    std: tuple[float, ...] = (1.0,)


class Reshape(msgspec.Struct, frozen=True, tag="reshape"):
    """Another shape with as many elements; -1 at most once."""

    shape: tuple[int, ...]


class Cast(msgspec.Struct, frozen=True, tag="cast"):
    """Another dtype, in numpy's words: `float32`."""

    dtype: str


class UseOutput(msgspec.Struct, frozen=True, tag="output"):
    """Which output the steps after it work on; the first one without this step."""

    name: str


class Softmax(msgspec.Struct, frozen=True, tag="softmax"):
    """exp(x) / sum(exp(x)) on the last axis."""


class Sigmoid(msgspec.Struct, frozen=True, tag="sigmoid"):
    """1 / (1 + exp(-x))."""


class Round(msgspec.Struct, frozen=True, tag="round"):
    """Values and scores rounded to n decimals."""

    n: int


class Argmax(msgspec.Struct, frozen=True, tag="argmax"):
    """The best index on the last axis, as `prediction`."""


class TopK(msgspec.Struct, frozen=True, tag="top_k"):
    """The n best indices on the last axis, best first, as `prediction`."""

    n: int


class Labels(msgspec.Struct, frozen=True, tag="labels"):
    """Names for the indices of `prediction`."""

    names: tuple[str, ...]


class MinScore(msgspec.Struct, frozen=True, tag="min_score"):
    """Leaves out of `prediction` what scores below x."""

    x: float


Preprocess = Scale | Normalize | Reshape | Cast
Postprocess = UseOutput | Softmax | Sigmoid | Round | Argmax | TopK | Labels | MinScore

FormatName = Literal["auto", "oip", "values", "raw", "npy"]


class Form(msgspec.Struct, frozen=True):
    """How one declared input's payload becomes a tensor.

    `auto` decides by content type, then by the first bytes. `tensor` names the model's input that is
    fed, "" = the only one. `values`: `fields` are the JSON members taken in order (none = the bare
    number or list), `missing` what an absent or null member does, `time` the member with the time
    stamp. `raw`: little-endian `dtype` ("" = the tensor's own), `columns` values interleaved per row.
    """

    format: FormatName = "auto"
    tensor: str = ""
    fields: tuple[str, ...] = ()
    missing: Literal["reject", "nan"] = "reject"
    time: str = ""
    dtype: str = ""
    columns: int = 0
