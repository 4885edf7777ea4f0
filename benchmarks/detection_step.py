"""A training step of the detectors beside torchvision's own, with the number of its synchronizations.

    python benchmarks/detection_step.py [--quick] [--device cuda] [--amp] [--deterministic]

For each family the same network, images and boxes take turns: forward and backward with the losses of
`engine/tasks/detection/losses`, and torchvision's own `model(images, targets)` in training mode. Images are noise,
every fourth has no object. Optimizer and data loading are left out: both ways have them in common.

    img/s             medians over the turns; `ratio` is the median of the turns' ratios, ours over torchvision's
    cpu ratio         the same of the time of the processors, which other work on the machine changes less
    synchronizations  in a step, ours and torchvision's: on a GPU those that `torch.cuda.set_sync_debug_mode` reports,
                      on a CPU a stand-in (tests/helpers/synchronizations.py)
    MB                most memory of a step that tensors take on a GPU, with the network, ours and torchvision's
    difference        the largest relative difference of a part of the loss; both samplers of Faster R-CNN draw alike

A row is printed as soon as it is measured. Measure on a machine with nothing else to do.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import nn  # noqa: E402

from tests.helpers.synchronizations import SynchronizingOperations, same_draws  # noqa: E402
from trainingapp.engine.tasks.detection.losses import detector_losses, proposals  # noqa: E402
from trainingapp.engine.tasks.detection.losses.targets import PaddedTargets, padded  # noqa: E402
from trainingapp.engine.tasks.detection.networks import (  # noqa: E402
    DetectorOptions,
    build_detector,
    first_label,
    keep_anchors_in_float32,
)

FEW = 16
"""Synchronizations of a step below which the benchmark names their places."""

CLASSES = 20
OBJECTS = (7, 0, 3, 12)
"""Objects of the images, in turn."""


@dataclass(frozen=True)
class Case:
    """A network, the side of its images and the size of a batch."""

    name: str
    size: int
    batch: int


CPU_QUICK = [
    Case("fcos_resnet18_fpn", 96, 8),
    Case("retinanet_resnet18_fpn", 96, 8),
    Case("ssd300_vgg16", 288, 2),
    Case("ssdlite320_mobilenet_v3_large", 320, 4),
    Case("fasterrcnn_mobilenet_v3_large_320_fpn", 128, 4),
]
CPU = [
    Case("fcos_resnet18_fpn", 96, 16),
    Case("fcos_resnet50_fpn", 320, 4),
    Case("retinanet_resnet18_fpn", 96, 16),
    Case("retinanet_resnet50_fpn_v2", 320, 4),
    Case("ssd300_vgg16", 320, 4),
    Case("ssdlite320_mobilenet_v3_large", 320, 16),
    Case("fasterrcnn_mobilenet_v3_large_320_fpn", 320, 4),
    Case("fasterrcnn_resnet50_fpn", 320, 2),
]
CUDA = [
    Case("fcos_resnet18_fpn", 96, 16),
    Case("fcos_resnet50_fpn", 640, 16),
    Case("retinanet_resnet50_fpn", 640, 16),
    Case("retinanet_resnet50_fpn_v2", 640, 16),
    Case("ssd300_vgg16", 320, 32),
    Case("ssdlite320_mobilenet_v3_large", 320, 32),
    Case("fasterrcnn_mobilenet_v3_large_320_fpn", 320, 16),
    Case("fasterrcnn_resnet50_fpn", 640, 8),
]


@dataclass(frozen=True)
class Plan:
    """Turns of each way, and the steps of a turn."""

    turns: int
    steps: int


@dataclass(frozen=True)
class Took:
    """The time of a turn, and that of the processors of this machine."""

    seconds: float
    cpu_seconds: float


Step = Callable[[], dict[str, torch.Tensor]]


@dataclass
class Figures:
    """What was measured of a case; see the head of this file."""

    batch: int
    size: int
    images_per_s: float
    torchvision_images_per_s: float
    ratio: float
    cpu_ratio: float
    synchronizations: int
    torchvision_synchronizations: int
    memory_mb: int
    torchvision_memory_mb: int
    difference: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller batches, fewer turns")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--amp", action="store_true", help="forward passes in bfloat16")
    parser.add_argument("--deterministic", action="store_true", help="deterministic algorithms, without Faster R-CNN")
    parser.add_argument("--only", default="", help="names of networks contain this")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.use_deterministic_algorithms(options.deterministic)
    torch.set_float32_matmul_precision("high")
    is_gpu = device.type == "cuda"
    cases = CUDA if is_gpu else CPU_QUICK if options.quick else CPU
    plan = Plan(turns=3 if options.quick else 7, steps=5 if is_gpu else 1)
    found: dict[str, Figures] = {}
    names = (
        f"{'img/s':>9}{'torchvision':>13}{'ratio':>7}{'cpu ratio':>11}{'syncs':>7}{'before':>7}{'MB':>8}{'before':>8}"
    )
    print(f"{'network':39}{'size':>5}{'batch':>6}{names}{'difference':>12}", flush=True)
    for case in cases:
        if options.only in case.name and not (options.deterministic and case.name.startswith("fasterrcnn")):
            one = found[case.name] = measure(case, plan, device, amp=options.amp)
            print(row(case, one), flush=True)
    about = {"device": torch.cuda.get_device_name(device) if is_gpu else "cpu", "torch": torch.__version__}
    settings = {"amp": options.amp, "deterministic": options.deterministic, "threads": torch.get_num_threads()}
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    ratios = {name: one.ratio for name, one in found.items()}
    print(json.dumps({**about, **settings, "ratio": ratios, "cases": {name: asdict(f) for name, f in found.items()}}))


def row(case: Case, one: Figures) -> str:
    speeds = f"{one.images_per_s:9.1f}{one.torchvision_images_per_s:13.1f}{one.ratio:7.2f}{one.cpu_ratio:11.2f}"
    waits = f"{one.synchronizations:7}{one.torchvision_synchronizations:7}"
    memory = f"{one.memory_mb:8}{one.torchvision_memory_mb:8}"
    return f"{case.name:39}{case.size:5}{case.batch:6}{speeds}{waits}{memory}{one.difference:12.1e}"


def measure(case: Case, plan: Plan, device: torch.device, *, amp: bool) -> Figures:
    torch.manual_seed(0)
    model = network(case).to(device, memory_format=torch.channels_last)
    images, targets = batch_of(case, device)
    by_image = targets.by_image()

    def ours() -> dict[str, torch.Tensor]:
        with precision(device, amp=amp):
            return detector_losses(model, images, targets)

    def torchvisions() -> dict[str, torch.Tensor]:
        with precision(device, amp=amp):
            found: dict[str, torch.Tensor] = model(images, by_image)
        return found

    ways = (ours, torchvisions)
    difference = largest_difference(model, *ways)
    for way in ways:  # the choice of kernels, buffers and anchors
        step(model, way)
        step(model, way)
    synchronizations = [count_synchronizations(model, way, device) for way in ways]
    memory = [memory_of(model, way, device) for way in ways]
    turns = [[time_of(model, way, plan.steps, device) for way in ways] for _ in range(plan.turns)]
    speeds = [
        case.batch * plan.steps / statistics.median(took.seconds for took in times)
        for times in zip(*turns, strict=True)
    ]
    ratio = statistics.median(theirs.seconds / own.seconds for own, theirs in turns)
    cpu_ratio = statistics.median(theirs.cpu_seconds / own.cpu_seconds for own, theirs in turns)
    return Figures(case.batch, case.size, *speeds, ratio, cpu_ratio, *synchronizations, *memory, difference)


def network(case: Case) -> nn.Module:
    """In training mode. Without dropout, and with norms that keep no statistics, so that both ways see the same."""
    options = DetectorOptions(CLASSES, case.size, score_thresh=0.01, nms_thresh=0.5, detections_per_img=100)
    model = build_detector(case.name, options, pretrained="none", weights_from=None).train()
    keep_anchors_in_float32(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def batch_of(case: Case, device: torch.device) -> tuple[torch.Tensor, PaddedTargets]:
    counts = [OBJECTS[number % len(OBJECTS)] for number in range(case.batch)]
    boxes = []
    for count in counts:
        corners, sides = torch.rand(count, 2) * case.size * 0.6, case.size * (0.05 + 0.35 * torch.rand(count, 2))
        boxes.append(torch.cat([corners, corners + sides], dim=1))
    boxes_NM4, labels_NM = padded(boxes, [torch.randint(CLASSES, (count,)) for count in counts])
    images = torch.randn(case.batch, 3, case.size, case.size, device=device).to(memory_format=torch.channels_last)
    return images, PaddedTargets.of(boxes_NM4.to(device), labels_NM.to(device), counts, first_label(case.name))


def precision(device: torch.device, *, amp: bool) -> AbstractContextManager[object]:
    return torch.autocast(device.type, dtype=torch.bfloat16) if amp else nullcontext()


def step(model: nn.Module, way: Step) -> None:
    torch.stack(list(way().values())).sum().backward()
    model.zero_grad(set_to_none=True)


def largest_difference(model: nn.Module, ours: Step, theirs: Step) -> float:
    """Of the parts of the loss, relative to the larger of torchvision's part and 1."""
    with same_draws(), torch.no_grad():
        own, other = ours(), theirs()
    assert own.keys() == other.keys()
    return max(float((own[name] - value).abs() / value.abs().clamp(min=1)) for name, value in other.items())


def time_of(model: nn.Module, way: Step, steps: int, device: torch.device) -> Took:
    """Of some steps in a row, in which the host may be ahead of a GPU."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began, cpu_began = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step(model, way)
    wait()
    return Took(time.perf_counter() - began, time.process_time() - cpu_began)


def memory_of(model: nn.Module, way: Step, device: torch.device) -> int:
    """Megabytes at the peak of a step; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    step(model, way)
    return torch.cuda.max_memory_allocated() >> 20


def count_synchronizations(model: nn.Module, way: Step, device: torch.device) -> int:
    if device.type != "cuda":
        # Non-maximum suppression is called as for a GPU.
        with patch.object(proposals, "is_waited_for", lambda device: True), SynchronizingOperations() as operations:
            step(model, way)
        return operations.total
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step(model, way)
        torch.cuda.set_sync_debug_mode("default")
    places = Counter(f"{one.filename}:{one.lineno}" for one in found if "synchronizing" in str(one.message))
    if 0 < places.total() < FEW:
        print("   ", *(f"{count} x {place}" for place, count in places.items()), sep="\n    ", flush=True)
    return places.total()


if __name__ == "__main__":
    main()
