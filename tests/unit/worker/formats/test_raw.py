"""Payloads that are nothing but numbers in binary."""

from __future__ import annotations

import numpy as np
import pytest

from edged.config.steps import Form
from tests.unit.worker.formats.samples import NUMBERS, ask, extremes, one, refused, same


@pytest.mark.parametrize("datatype", [*NUMBERS, "BOOL"])
def test_the_tensors_own_datatype_is_read(datatype: str) -> None:
    array = extremes(datatype)
    decoded = ask(array.tobytes(), one(datatype), Form(format="raw"))
    assert same(decoded.tensors["x"], array)
    assert (decoded.plain, decoded.laid_out, decoded.numbers) == (True, False, False)


def test_the_configuration_may_name_another_datatype() -> None:
    decoded = ask(b"\x01\x02\xff\xff", one(), Form(format="raw", dtype="int16"))
    assert same(decoded.tensors["x"], np.array([513, -1], dtype=np.int16))


def test_columns_are_rows_of_interleaved_numbers() -> None:
    decoded = ask(bytes(range(6)), one(), Form(format="raw", dtype="uint8", columns=3))
    assert decoded.tensors["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert decoded.laid_out


def test_bytes_that_fill_no_whole_row_are_refused() -> None:
    refused(b"", one(), "0 bytes", form=Form(format="raw"))
    refused(bytes(7), one(), "7 bytes", "rows of 4 bytes (float32)", form=Form(format="raw"))
    refused(bytes(8), one(), "rows of 12 bytes (3 columns of float32)", form=Form(format="raw", columns=3))
    refused(b"\x02", one("BOOL"), "there is a 2", form=Form(format="raw"))


def test_strings_are_no_numbers() -> None:
    refused(b"abcd", one("BYTES"), "strings", form=Form(format="raw"))
    refused(b"abcd", one(), "object", form=Form(format="raw", dtype="object"))
    refused(b"abcd", one(), "float31", form=Form(format="raw", dtype="float31"))
