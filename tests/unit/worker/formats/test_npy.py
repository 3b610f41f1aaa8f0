"""numpy's files, and files that only look like it."""

from __future__ import annotations

import io
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy_format

from edged.config.steps import Form
from edged.worker.formats.decoded import Array
from tests.unit.worker.formats.samples import NUMBERS, ask, extremes, one, refused, same

NPY = Form(format="npy")


def saved(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def file(header: str, data: bytes = b"", *, version: int = 1) -> bytes:
    """A file with a header of one's own."""
    text = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + data


def read(payload: bytes) -> Array:
    decoded = ask(payload, one(), NPY)
    assert (decoded.plain, decoded.laid_out, decoded.numbers) == (True, True, False)
    return decoded.tensors["x"]


@pytest.mark.parametrize("datatype", [*NUMBERS, "BOOL"])
def test_extremes_of_every_datatype(datatype: str) -> None:
    assert same(read(saved(extremes(datatype))), extremes(datatype))


@given(
    hnp.arrays(
        hnp.boolean_dtypes()
        | hnp.integer_dtypes()
        | hnp.unsigned_integer_dtypes()
        | hnp.floating_dtypes(sizes=(16, 32, 64)),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3),
    ),
    st.booleans(),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_any_array_in_any_byte_order_and_layout(array: Array, fortran: bool, version: tuple[int, int]) -> None:
    out = io.BytesIO()
    npy_format.write_array(out, np.array(array, order="F" if fortran else "C"), version=version)
    found = read(out.getvalue())
    assert same(found, array.astype(array.dtype.newbyteorder("=")))
    assert found.flags.aligned
    assert found.flags.c_contiguous


def test_members_may_come_in_any_order_and_with_either_quote() -> None:
    header = "{\"shape\": (2L, 1), \"descr\": '>i2', 'fortran_order': False}\n"
    assert read(file(header, b"\x01\x00\x00\x02")).tolist() == [[256], [2]]


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([b"a"]), np.array([1j]), np.array(["2020"], dtype="M8[s]")]
)
def test_other_dtypes_are_refused(array: Array) -> None:
    refused(saved(array), one(), form=NPY)


def test_pickled_and_structured_arrays_are_refused() -> None:
    refused(saved(np.array([1, "a"], dtype=object)), one(), "'|O'", form=NPY)
    refused(saved(np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])), one(), "not that of a plain array", form=NPY)


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        (b"", "no npy file"),
        (b"\x93NUMPY", "no npy file"),
        (b"\x93NUMPZ" + bytes(20), "no npy file"),
        (file("{}", version=4), "no npy file"),
        (file("{}" + " " * 20), "not that of a plain array"),
        (b"\x93NUMPY\x01\x00\xff\xff" + bytes(100), "header says 65535 bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(100), "header says 2147483647 bytes"),
        (file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(7)), "takes 8 bytes, 7 came"),
        (file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(9)), "takes 8 bytes, 9 came"),
        (file("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}", bytes(4)), "takes 0 bytes"),
        (file(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {'9' * 18})}}"), "too large"),
        (file("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}"), "0 came"),
        (file("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", bytes(8)), "not that of a plain array"),
        (file("{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}", bytes(4)), "plain array"),
        (file("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", bytes(3)), "'<f3'"),
        (file("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}", bytes(4)), "not that of a plain array"),
        (file("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", b"\x01\x02"), "there is a 2"),
        (file(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * 40})}}", bytes(4)), "takes 4 bytes"),
        (file(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 5000},)}}", bytes(4)), "plain array"),
    ],
)
def test_files_that_lie_are_refused(payload: bytes, word: str) -> None:
    refused(payload, one(), word, form=NPY)


@given(cut=st.integers(0, 200))
def test_a_file_cut_anywhere_is_refused(cut: int) -> None:
    payload = saved(np.arange(20, dtype=np.float32))
    refused(payload[: min(cut, len(payload) - 1)], one(), form=NPY)


def test_a_large_array_is_not_copied() -> None:
    payload = saved(np.zeros(100_000, dtype=np.float32))
    decoded: Any = ask(payload, one(), NPY).tensors["x"]
    assert not decoded.flags.owndata
