"""Golden files: read case by case, and refused with the reason when they are not what they have to be."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.tensors import Signature, TensorSpec
from edged.worker.golden import GoldenFile

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 3)),))
TEXTS = Signature((TensorSpec("t", "BYTES", (-1,)),), (TensorSpec("y", "BYTES", (-1,)),))
X, Y = np.arange(20, dtype=np.float32).reshape(5, 4), np.ones((5, 3), np.float32)

Arrays = dict[str, Any]


def saved(folder: Path, arrays: Arrays, *, packed: bool = False) -> str:
    file = folder / "golden.npz"
    save = np.savez_compressed if packed else np.savez
    save(file, **arrays)
    return str(file)


def read(file: str, signature: Signature = SIGNATURE) -> list[tuple[Arrays, Arrays]]:
    with closing(GoldenFile(file, signature)) as golden:
        return [golden.case(number) for number in range(golden.cases)]


def refused(file: str, signature: Signature = SIGNATURE) -> str:
    with pytest.raises(EdgedError) as found:
        read(file, signature)
    assert found.value.fault.code == "golden"
    return found.value.fault.message


def test_cases_come_one_after_the_other(tmp_path: Path) -> None:
    golden = GoldenFile(saved(tmp_path, {"in/x": X, "out/y": Y}), SIGNATURE)
    assert golden.cases == 5
    for number in range(5):
        feeds, expected = golden.case(number)
        assert feeds["x"].shape == (1, 4), "the first axis that the tensor has and the file has not"
        assert feeds["x"][0].tolist() == X[number].tolist()
        assert expected["y"].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(EdgedError, match="case 5 does not come after 4 of 5"):
        golden.case(5)


def test_a_case_may_have_the_first_axis(tmp_path: Path) -> None:
    cases = read(saved(tmp_path, {"in/x": X.reshape(5, 1, 4), "out/y": Y.reshape(5, 1, 3)}))
    assert cases[0][0]["x"].shape == (1, 4)
    cases = read(saved(tmp_path, {"in/x": np.zeros((2, 7, 4), np.float32), "out/y": Y[:2]}))
    assert cases[0][0]["x"].shape == (7, 4)


def test_packed_and_texts(tmp_path: Path) -> None:
    assert read(saved(tmp_path, {"in/x": X, "out/y": Y}, packed=True))[1][0]["x"].tolist() == [X[1].tolist()]
    texts = np.array([["a"], ["bc"]])
    feeds, expected = read(saved(tmp_path, {"in/t": texts, "out/y": texts}), TEXTS)[1]
    assert feeds["t"].dtype == object
    assert feeds["t"].tolist() == expected["y"].tolist() == ["bc"]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"out/y": Y}, "no in/x in it"),
        ({"in/x": X}, "no out/NAME"),
        ({"in/x": X, "out/y": Y, "out/z": Y}, "other names than in/x, out/y"),
        ({"in/x": X, "out/y": Y, "x": X}, "other names"),
        ({"in/x": X[:0], "out/y": Y[:0]}, "has 0 cases"),
        ({"in/x": X, "out/y": Y[:4]}, "in/x has 5, out/y has 4"),
        ({"in/x": np.zeros((10_000, 4), np.float32), "out/y": np.zeros((10_000, 3), np.float32)}, "has 10000 cases"),
        ({"in/x": X.astype(np.float64), "out/y": Y}, "in/x is float64, the model's is float32"),
        ({"in/x": X, "out/y": Y.astype(np.int64)}, "out/y is int64"),
        ({"in/x": X[:, :3], "out/y": Y}, "the shape [3], the model's tensor [-1, 4]"),
        ({"in/x": np.asfortranarray(X), "out/y": Y}, "Fortran's order"),
        ({"in/x": np.float32(1), "out/y": Y}, "no first axis"),
        ({"in/x": X.astype(">f4"), "out/y": Y}, "in/x is >f4"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, arrays: Arrays, said: str) -> None:
    assert said in refused(saved(tmp_path, arrays))


class Mine:
    """Something that acts when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return Path.touch, (Path("/tmp/edged-was-unpickled"),)  # type: ignore[return-value]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    objects = np.empty(5, dtype=object)
    objects[:] = [Mine()] * 5
    assert "pickled objects" in refused(saved(tmp_path, {"in/x": objects, "out/y": Y}))
    raw = zipped(tmp_path, {"in/x.npy": pickle.dumps(Mine()), "out/y.npy": npy(Y)})
    assert "cannot be read" in refused(raw)
    assert not Path("/tmp/edged-was-unpickled").exists()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(folder: Path, members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(folder / "raw.npz", "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(folder / "raw.npz")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = zipped(tmp_path, {"in/x.npy": bytes(80 * 2**20), "out/y.npy": npy(Y)}, zipfile.ZIP_DEFLATED)
    assert Path(bomb).stat().st_size < 2**20
    assert "may take 67108864" in refused(bomb)


def test_a_header_that_lies_reserves_nothing(tmp_path: Path) -> None:
    longer = npy(X).replace(b"(5, 4)", b"(6, 4)")
    assert "not as long as its shape" in refused(zipped(tmp_path, {"in/x.npy": longer, "out/y.npy": npy(Y)}))
    wide = io.BytesIO()
    np.lib.format.write_array_header_1_0(wide, {"descr": "<f4", "fortran_order": False, "shape": (5, 10**18)})
    lying = zipped(tmp_path, {"in/x.npy": wide.getvalue() + bytes(80), "out/y.npy": npy(Y)})
    assert "not as long as its shape" in refused(lying)


def test_no_file_and_no_plain_file(tmp_path: Path) -> None:
    assert "cannot be read" in refused(str(tmp_path / "absent.npz"))
    (tmp_path / "link.npz").symlink_to(saved(tmp_path, {"in/x": X, "out/y": Y}))
    assert "cannot be read" in refused(str(tmp_path / "link.npz"))
    assert "cannot be read" in refused(str(tmp_path))
    many = zipped(tmp_path, {f"in/{number}.npy": npy(X) for number in range(200)})
    assert "200 arrays" in refused(many)
    bzip = zipped(tmp_path, {"in/x.npy": npy(X), "out/y.npy": npy(Y)}, zipfile.ZIP_BZIP2)
    assert "packed in a way" in refused(bzip)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data(), st.booleans())
def test_a_damaged_file_is_refused_or_read(tmp_path: Path, data: st.DataObject, packed: bool) -> None:
    content = bytearray(Path(saved(tmp_path, {"in/x": X, "out/y": Y}, packed=packed)).read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged.npz").write_bytes(content)
    try:
        read(str(tmp_path / "damaged.npz"))
    except EdgedError as error:
        assert error.fault.code == "golden"
