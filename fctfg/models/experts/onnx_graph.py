"""ONNX graphs of trained networks: reading one safely, keeping its structure as text, and making it a torch module.

Nothing in a file is executed. onnx2torch writes the names of a graph's nodes into Python source that it then runs, so
the names of a file are never handed on: `tidy` numbers everything. No file outside of the model's folder is read.
"""

from __future__ import annotations

import base64
import binascii
import math
import mmap
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from fctfg.errors import FctfgError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

LARGEST = 2**31  # bytes, of a file or of the weights: what protobuf can hold
LARGEST_STRUCTURE = 2**24  # bytes, of a graph without its weights; those of ArcFace have some ten thousand
KEPT = 16  # values; smaller tensors (limits, scales) are part of the structure, larger ones are weights
DAMAGED = "is truncated or is not an ONNX file"
AGAIN = "download it again, or export it as float32 with ONNX's own operators only"


def read_onnx(path: Path) -> ModelProto:
    """Read an ONNX file with its weights, also those in files beside it.

    Args:
        path: the file.

    Returns:
        The model, tidied (see `tidy`).

    Raises:
        FctfgError: it is missing, empty, truncated, not ONNX, or too large; its weights are missing, or lie outside of
            its folder; or it has what `tidy` refuses.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import load_external_data_for_model

    if not path.is_file():
        raise FctfgError(f"the ONNX file {path} does not exist; give the path of an .onnx file")
    if (size := path.stat().st_size) == 0:
        raise FctfgError(f"{path} is empty; download or copy it again")
    if size >= LARGEST:
        raise FctfgError(f"{path} has {size} bytes, more than an ONNX file can have; give the path of an .onnx file")
    model = onnx.ModelProto()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data[:64].lstrip().lower()
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise FctfgError(f"{path} is a web page, not an ONNX file (a failed download?); download it again")
        if start.startswith(b"version https://git-lfs"):
            raise FctfgError(f"{path} is a Git LFS pointer, not the network; fetch it with `git lfs pull`")
        try:
            with memoryview(data) as view:
                model.ParseFromString(view)
        except DecodeError as error:
            raise FctfgError(f"{path} {DAMAGED}; {AGAIN}") from error
    if not model.graph.node or not model.opset_import:
        raise FctfgError(f"{path} {DAMAGED}; {AGAIN}")
    try:
        load_external_data_for_model(model, str(path.absolute().parent))
    except Exception as error:  # onnx's checker, the system and wrong lengths have no common error class
        raise FctfgError(
            f"the weights that {path} keeps in another file cannot be read ({error}); put the files that belong to it "
            f"into its folder"
        ) from error
    try:
        tidy(model)
    except ValueError as error:
        raise FctfgError(f"{path} {error}; {AGAIN}") from error
    return model


def tidy(model: ModelProto) -> None:
    """Reduce a model to its computation, in place.

    Constants become initializers, what nothing uses is dropped, and all names are replaced by numbered ones.

    Args:
        model: with its weights in it.

    Raises:
        ValueError: it has operators of another domain, subgraphs, floating point weights that are not float32, or its
            values do not fit together; the text goes on after the name of the file.
    """
    import onnx

    graph = model.graph
    version = next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 0)
    if not version:
        raise ValueError(DAMAGED)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or not node.op_type.isidentifier():
            raise ValueError(f"uses the operator {node.op_type!r} of {node.domain!r}, which is not one of ONNX's own")
        if any(a.HasField("g") or a.graphs or a.HasField("sparse_tensor") or a.tensors for a in node.attribute):
            raise ValueError(f"uses the operator {node.op_type!r} with a graph in it")
        node.domain = ""
    _constants_to_initializers(graph)
    for tensor in [*graph.initializer, *(a.t for node in graph.node for a in node.attribute if a.HasField("t"))]:
        _check_tensor(tensor)
    _number_names(graph)
    for field in ("name", "doc_string", "value_info", "sparse_initializer", "quantization_annotation"):
        graph.ClearField(field)
    for field in ("functions", "metadata_props", "training_info", "opset_import"):
        model.ClearField(field)
    model.opset_import.append(onnx.helper.make_opsetid("", version))


def free_batch(graph: GraphProto) -> None:
    """Make a graph that is fixed to batches of one work for any batch, in place.

    Such graphs have the 1 in the shape of the input and in the targets of the reshapes behind it.

    Args:
        graph: of one input, tidied.
    """
    import onnx

    batch = graph.input[0].type.tensor_type.shape.dim[0]
    fixed = batch.dim_value == 1
    batch.dim_param = "N"
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    if not fixed:
        return
    constants = {tensor.name: tensor for tensor in graph.initializer}
    images = {graph.input[0].name}  # values whose first axis is the batch
    for node in graph.node:
        if node.op_type == "Shape" or images.isdisjoint(node.input):
            continue
        images.update(node.output)
        target = constants.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) == 2 else None
        shape = onnx.numpy_helper.to_array(target).tolist() if target is not None else []
        if len(shape) == 2 and shape[0] == 1:
            node.op_type = "Flatten"  # axis 1
            del node.input[1], node.attribute[:]
        elif shape and shape[0] == 1:
            node.input[1] = f"{node.input[1]}_{node.output[0]}"  # other nodes may use the same constant
            free = onnx.helper.make_tensor(node.input[1], onnx.TensorProto.INT64, [len(shape)], [0, *shape[1:]])
            graph.initializer.append(free)  # 0: as in the input


def pack(model: ModelProto) -> str:
    """The structure of a model as text: base64 of the zlib-compressed model without the data of its weights.

    Args:
        model: tidied.

    Returns:
        Some kB of ASCII.
    """
    import onnx

    structure = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    structure.graph.name = "graph"
    for field in ("node", "input", "output"):
        getattr(structure.graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if _is_weight(tensor):
            structure.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        else:
            structure.graph.initializer.append(tensor)
    return base64.b64encode(zlib.compress(structure.SerializeToString(deterministic=True), 9)).decode("ascii")


def unpack(text: str) -> ModelProto:
    """The opposite of `pack`, for texts of any origin.

    Returns:
        The model, tidied, with weights of zero.

    Raises:
        ValueError: the text is damaged, or too large.
    """
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        unzip = zlib.decompressobj()
        model.ParseFromString(unzip.decompress(base64.b64decode(text, validate=True), LARGEST_STRUCTURE))
    except (binascii.Error, zlib.error, DecodeError) as error:
        raise ValueError(f"is damaged ({error})") from error
    if not unzip.eof:
        raise ValueError("is damaged (it ends too early or is too large)")
    weights = [tensor for tensor in model.graph.initializer if _is_weight(tensor)]
    if sum(4 * _count(tensor) for tensor in weights) >= LARGEST:
        raise ValueError(f"has more than {LARGEST} bytes of weights")
    for tensor in weights:
        tensor.raw_data = bytes(4 * _count(tensor))
    tidy(model)
    return model


def to_torch(model: ModelProto) -> nn.Module:
    """The model as a torch module in eval mode, whose parameters and buffers are the weights.

    Args:
        model: tidied.

    Raises:
        ValueError: onnx2torch cannot convert it, for an operator that it does not know for instance.
    """
    from onnx2torch import convert

    try:
        return convert(model).eval()
    except Exception as error:  # onnx2torch, its shape inference and torch.fx have no common error class
        reason = str(error).strip().partition("\n")[0] or repr(error)
        raise ValueError(f"has a graph that onnx2torch cannot convert ({reason})") from error


def _count(tensor: TensorProto) -> int:
    """Number of values of a tensor."""
    if any(size < 0 for size in tensor.dims):
        raise ValueError(DAMAGED)
    return math.prod(tensor.dims)


def _is_weight(tensor: TensorProto) -> bool:
    return tensor.data_type == tensor.FLOAT and _count(tensor) > KEPT


def _check_tensor(tensor: TensorProto) -> None:
    from onnx.external_data_helper import uses_external_data

    if tensor.data_type in (tensor.FLOAT16, tensor.BFLOAT16, tensor.DOUBLE):
        kind = tensor.DataType.Name(tensor.data_type).lower()
        raise ValueError(f"has {kind} weights instead of float32")
    wrong = tensor.data_type == tensor.FLOAT and tensor.raw_data and len(tensor.raw_data) != 4 * _count(tensor)
    if wrong or uses_external_data(tensor):
        raise ValueError(DAMAGED)


def _constants_to_initializers(graph: GraphProto) -> None:
    """So that weights and the targets of reshapes are found in one place."""
    import onnx
    from onnx import TensorProto

    for position, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "Constant":
            continue
        if len(node.attribute) != 1 or len(node.output) != 1:
            raise ValueError(DAMAGED)
        attribute, name = node.attribute[0], node.output[0]
        match attribute.name:
            case "value":
                tensor = attribute.t
            case "value_float":
                tensor = onnx.helper.make_tensor(name, TensorProto.FLOAT, [], [attribute.f])
            case "value_floats":
                tensor = onnx.helper.make_tensor(name, TensorProto.FLOAT, [len(attribute.floats)], attribute.floats)
            case "value_int":
                tensor = onnx.helper.make_tensor(name, TensorProto.INT64, [], [attribute.i])
            case "value_ints":
                tensor = onnx.helper.make_tensor(name, TensorProto.INT64, [len(attribute.ints)], attribute.ints)
            case _:
                raise ValueError(f"has a constant that is not a number ({attribute.name})")
        graph.initializer.append(tensor)
        graph.initializer[-1].name = name
        del graph.node[position]


def _number_names(graph: GraphProto) -> None:
    """Replaces all names of a graph, and drops initializers that nothing uses or that are listed as inputs too."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    constants = {tensor.name for tensor in graph.initializer}
    for position, tensor in reversed(list(enumerate(graph.initializer))):
        if tensor.name not in used:
            del graph.initializer[position]
    for position, value in reversed(list(enumerate(graph.input))):
        if value.name in constants:  # as before version 4 of ONNX's format
            del graph.input[position]
    names = {"": ""}  # "": an optional input or output that is left out

    def give(name: str) -> str:
        if name in names:
            raise ValueError(DAMAGED)
        names[name] = f"value_{len(names)}"
        return names[name]

    for named in (*graph.input, *graph.initializer):
        named.name, named.doc_string = give(named.name), ""
    for number, node in enumerate(graph.node):
        if not names.keys() >= set(node.input):
            raise ValueError(DAMAGED)
        node.name, node.doc_string = f"{node.op_type.lower()}_{number}", ""
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [give(name) if name else "" for name in node.output]
    for value in graph.output:
        if value.name not in names:
            raise ValueError(DAMAGED)
        value.name, value.doc_string = names[value.name], ""
