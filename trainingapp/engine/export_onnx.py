"""ONNX files as `ExportOptions` describe them, and OpenVINO made from them.

The file is written once and serves both formats. `checks` are the inputs that each format is compared on, with what
PyTorch gives for them: single images, batches where their number is free, other sizes where the size is free.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F

from trainingapp.contract.export_options import NEWER_OPSET, NMS_OUTPUTS, ExportOptions
from trainingapp.contract.messages import MessageError
from trainingapp.contract.messages.weights import (
    EXPORT_SIZE_FIXED,
    FORMAT_NOT_CREATED,
    HALF_DIFFERS,
    HALF_OVERFLOW,
)
from trainingapp.contract.model_card import HALF_TOLERANCE, Card
from trainingapp.contract.number_text import number_text
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.networks import load_network
from trainingapp.engine.plain_outputs import Outputs
from trainingapp.engine.tasks.registry import implementation

OLDER_OPSET = 17
"""Of the older exporter where none is chosen; the newer one chooses its own."""

BATCH_COMPARED = 3
OTHER_SIZES = ((32, 64), (64, 0))
"""Added to height and width of an image for the comparison in other sizes."""

EXAMPLE_SIZE = (320, 448)
"""Height and width of the example for a free size: exporters take a side of 1 in a feature map, and equal sides, for
constants."""

LEAST_COMPRESSED = 256
"""Numbers of a tensor from which on it is stored as float16."""

#: A network in some format: its outputs for a batch of images.
Run = Callable[[torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Check:
    """Images [N, 3, H, W] and what PyTorch gives for them."""

    images_NCHW: torch.Tensor
    expected: Outputs


class OnnxExport:
    """The network of a card as an ONNX file at `path`, which is written when it is first needed."""

    def __init__(
        self, card: Card, weights: Path, images: Sequence[torch.Tensor], options: ExportOptions, path: Path
    ) -> None:
        self.checks: list[Check] = []
        self.rounding: float | None = None
        """Largest difference of scores that float16 makes; None for single precision, or where it is unknown."""
        self.options = options
        self._card, self._weights, self._images, self._path = card, weights, images, path
        self._error: MessageError | None = None

    def file(self) -> Path:
        """The file. Raises MessageError, also at each later call, where it could not be written."""
        if self._error is not None:
            raise self._error
        if not self._path.exists():
            try:
                self._write()
            except MessageError as error:
                self._error = error
                raise
        return self._path

    def _write(self) -> None:
        task = implementation(self._card["task"])
        network = load_network(self._card, self._weights)
        module = task.export_network(network, self._card, self.options)
        if self.options.half:
            self._round(network)
        self.checks = self._checks(module)
        names = NMS_OUTPUTS if self.options.nms else tuple(TASKS[self._card["task"]].output_names)
        opset = self.options.opset
        is_newer = task.onnx_dynamo and (opset is None or opset >= NEWER_OPSET)
        created("ONNX", lambda: self._export(module, names, is_newer=is_newer))
        model = onnx.load(self._path)
        _rename_axes(model, self.options)
        if self.options.half:
            _store_as_half(model)
        onnx.save(model, self._path)

    def _round(self, network: nn.Module) -> None:
        """Round the large weights to float16, and measure what this changes. Raises MessageError for too much."""
        task = implementation(self._card["task"])
        plain = task.export_network(network, self._card, replace(self.options, nms=False, size="fixed", batch="fixed"))
        with torch.inference_mode():
            before = [plain(image) for image in self._images]
        with torch.no_grad():
            for name, weights in network.named_parameters():
                if weights.dim() >= 2:
                    rounded = weights.half()
                    if not torch.isfinite(rounded).all():
                        raise MessageError(HALF_OVERFLOW(tensor=name))
                    weights.copy_(rounded)
        worst = 0.0
        with torch.inference_mode():
            for image, outputs in zip(self._images, before, strict=True):
                found = [[tensor.numpy() for tensor in part] for part in (outputs, plain(image))]
                worst = max(worst, task.output_differences(self._card, *found)[0])
        # Rounding may change which proposals a detector in two stages looks at: then nothing can be compared.
        self.rounding = worst if np.isfinite(worst) else None
        if self.rounding is not None and self.rounding > HALF_TOLERANCE:
            difference, allowed = number_text(self.rounding, digits=2), number_text(HALF_TOLERANCE)
            raise MessageError(HALF_DIFFERS(difference=difference, allowed=allowed))

    def _checks(self, module: nn.Module) -> list[Check]:
        images = list(self._images)
        if self.options.batch == "dynamic":
            images += [torch.cat(images[:BATCH_COMPARED])]
        if self.options.size == "dynamic":
            for more_height, more_width in OTHER_SIZES:
                height, width = images[0].shape[-2] + more_height, images[0].shape[-1] + more_width
                images.append(F.interpolate(images[-1], (height, width), mode="bilinear"))
        checks = []
        with torch.inference_mode():
            for batch in images:
                try:
                    checks.append(Check(batch, module(batch)))
                except (AssertionError, RuntimeError, ValueError) as error:
                    if batch.shape[-2:] == images[0].shape[-2:]:
                        raise
                    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
                    raise MessageError(EXPORT_SIZE_FIXED(error=first.rstrip("."))) from error
        return checks

    def _export(self, module: nn.Module, names: Sequence[str], *, is_newer: bool) -> None:
        options = self.options
        count = 2 if options.batch == "dynamic" else 1
        size = EXAMPLE_SIZE if options.size == "dynamic" else self._images[0].shape[-2:]
        example = F.interpolate(self._images[0], size, mode="bilinear").expand(count, -1, -1, -1).clone()
        axes = _input_axes(options)
        with torch.no_grad(), _without_fast_path():
            if is_newer:
                torch.onnx.export(
                    module,
                    (example,),
                    self._path,
                    input_names=["image"],
                    output_names=list(names),
                    dynamo=True,
                    opset_version=options.opset,
                    dynamic_shapes=(dict.fromkeys(axes, torch.export.Dim.DYNAMIC),) if axes else None,
                    external_data=False,
                    # The optimizer merges normalization into weights, which then are not those that were rounded.
                    optimize=not options.half,
                    verbose=False,
                )
                return
            preserved = torch.onnx.TrainingMode.PRESERVE if options.half else torch.onnx.TrainingMode.EVAL
            torch.onnx.export(
                module,
                (example,),
                self._path,
                input_names=["image"],
                output_names=list(names),
                dynamo=False,
                opset_version=options.opset or OLDER_OPSET,
                dynamic_axes={"image": axes, **self._output_axes(names)},
                training=preserved,
                verbose=False,
            )

    def _output_axes(self, names: Sequence[str]) -> dict[str, dict[int, str]]:
        """The axes of the outputs whose length differs between the checks."""
        found: dict[str, dict[int, str]] = {}
        for number, name in enumerate(names):
            shapes = [check.expected[number].shape for check in self.checks]
            free = [axis for axis in range(len(shapes[0])) if len({shape[axis] for shape in shapes}) > 1]
            found[name] = {axis: f"{name}_{axis}" for axis in free}
        return found


def created(name: str, make: Callable[[], object]) -> None:
    """Call `make`. Raises MessageError for any error of an exporter, with its first line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make()
    except MessageError:
        raise
    except Exception as error:  # exporters raise errors of any type
        first = next(iter(str(error).strip().splitlines()), "")
        raise MessageError(FORMAT_NOT_CREATED(format=name, kind=type(error).__name__, error=first)) from error


def onnx_session(path: Path) -> Run:
    """The outputs of an ONNX file on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(found) for found in session.run(None, {"image": images.numpy()})]


def write_openvino(onnx_file: Path, path: Path) -> Run:
    """Write PATH (.xml) and its weights beside it, and return its outputs on the CPU, computed in float32."""
    import openvino

    core = openvino.Core()
    openvino.save_model(core.read_model(onnx_file), path, compress_to_fp16=False)
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = range(len(compiled.outputs))

    def run(images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        found = compiled([images_NCHW.numpy()])
        return [torch.from_numpy(np.array(found[number])) for number in outputs]

    return run


class _without_fast_path:
    """Attention in operators that the older exporter knows."""

    def __enter__(self) -> None:
        self._was_on = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)

    def __exit__(self, *_error: object) -> None:
        torch.backends.mha.set_fastpath_enabled(self._was_on)


def _input_axes(options: ExportOptions) -> dict[int, str]:
    """The free axes of the input, with their names."""
    batch = {0: "batch"} if options.batch == "dynamic" else {}
    return batch | ({2: "height", 3: "width"} if options.size == "dynamic" else {})


def _rename_axes(model: onnx.ModelProto, options: ExportOptions) -> None:
    """Name the free axes of the input; the newer exporter numbers them."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    names = {dims[axis].dim_param: name for axis, name in _input_axes(options).items()}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _store_as_half(model: onnx.ModelProto) -> None:
    """Store the tensors that float16 represents exactly as such, each with a cast to float32: results stay the same."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_COMPRESSED:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
