"""A network in three formats: ONNX, torch's exported program, and its state dict in safetensors.

The first two hold the network's graph, for any batch, in which a `FusionConv` is a few plain operators
(`networks/parts/plain.py`).
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from nnunet_archs.networks.parts.fusion import Fusion, FusionConv

Run = Callable[[Tensor], Tensor]
INPUT, OUTPUT = "image", "logits"


@dataclass(frozen=True, kw_only=True)
class Format:
    """How weights are written, for an example of an input, and run again from a file and model.json's network."""

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, Tensor], bytes]
    load: Callable[[Path, Mapping[str, Any]], Run]

    def check_installed(self) -> None:
        """Check that the libraries are there.

        Raises:
            ValueError: if one is missing.
        """
        if missing := [name for name in self.needs if find_spec(name) is None]:
            raise ValueError(f'{", ".join(missing)} not installed, needed here; pip install "nnunet-archs[export]"')


def fusion_of(network: nn.Module) -> Fusion | None:
    """In which of two forms a network computes; None for one that has no two."""
    return next((module.fusion for module in network.modules() if isinstance(module, FusionConv)), None)


def write_onnx(network: nn.Module, example: Tensor) -> bytes:
    """ONNX, its input and output named, of the example's shape but for the batch, which may be any."""
    with quiet():
        program = trace(network, example)
        graph = torch.onnx.export(
            program,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=needed_opset(program),
            custom_translation_table={torch.ops.aten.instance_norm.default: instance_norm},
            dynamic_shapes=({0: "batch"},) if program.range_constraints else None,
            verbose=False,
        )
    assert graph is not None
    return graph.model_proto.SerializeToString()


def needed_opset(program: torch.export.ExportedProgram) -> int | None:
    """The first of ONNX' operator sets that has all operators of a graph, where that of older torch has not."""
    deformable = any(str(node.target).startswith("torchvision.deform_conv2d") for node in program.graph.nodes)
    return 19 if deformable else None


def instance_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    """Instance norm of `(B, C, *spatial)` in ONNX' operators, its means taken an axis at a time.

    onnxruntime's own operator adds up all voxels of a channel one after another, in float32: in 3D that alone moved
    logits by more than 1e-4. The arguments are those of torch's operator. It is one node until the graph is ONNX, for
    torch's exporter takes each through several passes.
    """
    from onnxscript import opset18

    op: Any = opset18  # it takes lists for constants, which its types do not know
    axes, per_channel = range(2, len(x.shape)), [1, -1, *[1] * (len(x.shape) - 2)]

    def mean(y: Any) -> Any:
        for axis in reversed(axes):
            y = op.ReduceMean(y, [axis], keepdims=1)
        return y

    centred = op.Sub(x, mean(x) if use_input_stats else op.Reshape(running_mean, per_channel))
    variance = mean(op.Mul(centred, centred)) if use_input_stats else op.Reshape(running_var, per_channel)
    scale = op.Reciprocal(op.Sqrt(op.Add(variance, eps)))
    normed = op.Mul(centred, scale if weight is None else op.Mul(scale, op.Reshape(weight, per_channel)))
    return normed if bias is None else op.Add(normed, op.Reshape(bias, per_channel))


def load_onnx(file: Path, network: Mapping[str, Any], *, threads: int = 0) -> Run:
    """An ONNX file in onnxruntime, on the CPU, by default with as many threads as it likes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # it would take new memory for a second run beside that of the first
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run([OUTPUT], {INPUT: x.numpy()})[0])


def write_program(network: nn.Module, example: Tensor) -> bytes:
    """A program of `torch.export`, of the example's shape but for the batch, which may be any."""
    content = io.BytesIO()
    with quiet():
        torch.export.save(trace(network, example), content)
    return content.getvalue()


def load_program(file: Path, network: Mapping[str, Any]) -> Run:
    """A program of `torch.export`."""
    with quiet():
        return torch.export.load(file).module()


def write_safetensors(network: nn.Module, example: Tensor) -> bytes:
    """The state dict, without any code."""
    from safetensors.torch import save

    # nnU-Net's own networks have tensors under two names, which safetensors does not take
    weights = network.state_dict().items()
    return save({name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in weights})


def load_safetensors(file: Path, network: Mapping[str, Any]) -> Run:
    """The network that model.json describes, with a file's state dict."""
    from safetensors.torch import load_file

    built = get_network_from_plans(
        network["class"],
        network["arguments"],
        network["imported_arguments"],
        network["input_channels"],
        network["num_classes"],
        deep_supervision=False,
    )
    built.load_state_dict(load_file(file))
    return built.eval().requires_grad_(False)


def trace(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """A network's graph for any batch; for the example's alone, of a network whose code knows no other."""
    # a dimension of 1 would be taken for a constant
    two = torch.cat([example, example])
    program = torch.export.export(network, (two,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False)
    return program if program.range_constraints else torch.export.export(network, (example,), strict=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow what torch's exporters say of their own insides."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


FORMATS = {
    "onnx": Format(
        suffix=".onnx",
        needs=("onnx", "onnxscript", "onnxruntime"),
        write=write_onnx,
        load=load_onnx,
    ),
    "safetensors": Format(
        suffix=".safetensors",
        needs=("safetensors",),
        write=write_safetensors,
        load=load_safetensors,
    ),
    "torch": Format(suffix=".pt2", needs=(), write=write_program, load=load_program),
}
