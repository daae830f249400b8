"""The network as an ONNX graph, answered by ONNX Runtime or by OpenVINO, which reads the same graph.

python bench/peers_onnx.py FOLDER PRECISION onnxruntime|openvino       reads orders, see peers_worker.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from peers_worker import Engine, given, layers, serve


def graph(weights: list[Any]) -> onnx.ModelProto:
    """From `images` (n, rows, columns, 9) to `chance` (n, rows, columns)."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(values: Any) -> str:
        name = f"constant{len(constants)}"
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    pairs = layers(weights)

    def convolve(x: str, number: int) -> str:
        kernel, bias = pairs[number]
        side = kernel.shape[0]
        parts = (constant(kernel.transpose(3, 2, 0, 1)), constant(bias))
        return node("Conv", x, *parts, kernel_shape=[side, side], pads=[side // 2] * 4)

    def pair(x: str, number: int) -> str:
        return node("Relu", convolve(node("Relu", convolve(x, number)), number + 1))

    x, skips = node("Transpose", "images", perm=[0, 3, 1, 2]), []
    for number in (0, 2, 4):
        x = pair(x, number)
        skips.append(x)
        x = node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = pair(x, 6)
    scales = constant(np.array([1, 1, 2, 2], np.float32))
    for number in (8, 10, 12):
        doubled = node("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric")
        x = pair(node("Concat", doubled, skips.pop(), axis=1), number)
    chance = node("Sigmoid", node("Squeeze", convolve(x, 14), constant(np.array([1]))))
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", "rows", "columns", 9])]
    outputs = [helper.make_tensor_value_info(chance, TensorProto.FLOAT, ["n", "rows", "columns"])]
    body = helper.make_graph(nodes, "unet", inputs, outputs, constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def onnxruntime_engine(path: Path, precision: str, threads: int) -> Engine:
    import onnxruntime

    if precision != "float32":
        raise SystemExit("ONNX Runtime has no convolution in bfloat16 on x86 processors")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Engine(f"ONNX Runtime {onnxruntime.__version__}", lambda images: session.run(None, {"images": images})[0])


def openvino_engine(path: Path, precision: str, threads: int) -> Engine:
    import openvino

    core = openvino.Core()
    kind = {"float32": "f32", "bfloat16": "bf16"}[precision]
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY"}
    requests: dict[tuple[int, ...], Any] = {}

    def predict(images: Any) -> Any:
        if images.shape not in requests:  # a graph for each shape, as for a service that knows its scenes
            model = core.read_model(path)
            model.reshape(list(images.shape))
            requests[images.shape] = core.compile_model(model, "CPU", hints).create_infer_request()
        return requests[images.shape].infer({0: images})[0]

    return Engine(f"OpenVINO {openvino.__version__.split('-')[0]}", predict)


def main() -> None:
    folder, precision, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    path = folder / f"{name}.onnx"
    onnx.save(graph(given(folder).weights), path)
    engine = {"onnxruntime": onnxruntime_engine, "openvino": openvino_engine}[name]
    serve(folder, engine(path, precision, int(os.environ["OMP_NUM_THREADS"])))


if __name__ == "__main__":
    main()
