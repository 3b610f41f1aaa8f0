"""Quantized models answer the same on every CPU (docs/adr/0007): this one, whatever it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edged.worker.session import Model
from tests import models


def test_the_largest_int8_products_are_not_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "product.onnx"
    file.write_bytes(models.integer_product())
    (sums,) = Model.open(file).run({"x": np.full((1, 64), 255, dtype=np.uint8)}).values()
    assert sums.tolist() == [[64 * 255 * 127] * 16]
