"""Every place where a model can name another file is found, whatever onnxruntime would make of it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edged.errors import EdgedError
from edged.worker.external import check_beside, external
from tests import models

PLACES = ["initializer", "sparse", "attribute", "tensors", "sparse attribute", "branch", "function", "training"]


def outside(name: str) -> TensorProto:
    """A tensor whose values lie in the file `name`."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=name)
    return tensor


def naming(name: str, place: str) -> bytes:
    """An ONNX file that names another one in this place of its protobuf."""
    model = onnx.load_from_string(models.linear())
    tensor = outside(name)
    sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
    node = helper.make_node("Constant", [], ["c"])
    match place:
        case "initializer":
            model.graph.initializer.append(tensor)
        case "sparse":
            model.graph.sparse_initializer.append(sparse)
        case "attribute":
            node.attribute.append(helper.make_attribute("value", tensor))
        case "tensors":
            node.attribute.add(name="v", type=onnx.AttributeProto.TENSORS).tensors.append(tensor)
        case "sparse attribute":
            node.attribute.add(name="v", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(sparse)
        case "branch":
            branch = helper.make_graph([], "branch", [], [], [tensor])
            node.attribute.append(helper.make_attribute("then_branch", branch))
        case "function":
            inner = helper.make_node("Constant", [], ["c"])
            inner.attribute.append(helper.make_attribute("value", tensor))
            model.functions.append(helper.make_function("own", "F", [], ["c"], [inner], []))
        case "training":
            model.training_info.add().initialization.initializer.append(tensor)
    if node.attribute:
        model.graph.node.append(node)
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("place", PLACES)
def test_ota_F47_every_place_is_looked_at(tmp_path: Path, place: str) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(naming("weights.bin", place))
    assert external(str(file)) == {"weights.bin"}
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    check_beside(str(file), ("weights.bin",))
    check_beside(str(file), None)
    with pytest.raises(EdgedError, match="which no release lists"):
        check_beside(str(file), ())


def test_ota_F47_of_several_locations_each_counts(tmp_path: Path) -> None:
    model = onnx.load_from_string(naming("weights.bin", "initializer"))
    model.graph.initializer[-1].external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert external(str(tmp_path / "model.onnx")) == {"weights.bin", "/etc/passwd"}


def test_ota_F47_a_tag_with_bits_that_are_cut_off_hides_nothing(tmp_path: Path) -> None:
    """protobuf keeps 32 bits of a tag: `graph` as a number above that would be passed over by a reader with more."""
    content = naming("weights.bin", "initializer")
    at = content.index(b"\x3a")  # field 7, bytes
    (tmp_path / "model.onnx").write_bytes(content[:at] + b"\xba\x80\x80\x80\x10" + content[at + 1 :])
    with pytest.raises(EdgedError, match="not_a_model"):
        external(str(tmp_path / "model.onnx"))


def test_a_model_without_other_files(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(models.linear())
    assert external(str(file)) == frozenset()
    named = onnx.load_from_string(models.linear())
    named.graph.node[0].name = "location"
    file.write_bytes(named.SerializeToString())
    assert external(str(file)) == frozenset()


def test_what_is_named_has_to_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(naming("weights.bin", "initializer"))
    with pytest.raises(EdgedError, match="which is no file"):
        check_beside(str(file), ("weights.bin",))
    (tmp_path / "weights.bin").mkdir()
    with pytest.raises(EdgedError, match="which is no file"):
        check_beside(str(file), ("weights.bin",))
    (tmp_path / "weights.bin").rmdir()
    (tmp_path / "weights.bin").symlink_to("/etc/hostname")
    with pytest.raises(EdgedError, match="which is no file"):
        check_beside(str(file), ("weights.bin",))


@settings(max_examples=300)
@given(st.data(), st.sampled_from(PLACES))
def test_any_bytes_are_walked_through_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, place: str
) -> None:
    content = bytearray(naming("weights.bin", place))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "model.onnx"
    file.write_bytes(content)
    try:
        external(str(file))
    except EdgedError as error:
        assert error.fault.code == "not_a_model"
