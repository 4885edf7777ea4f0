"""Images per second: by number format, memory format and determinism, and by number of loader processes."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
import torchvision
from pydantic import JsonValue

from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.gpu_check.case import Case, Plan, Section, Values
from trainingapp.engine.gpu_check.training import PHOTOS, new_training, peak_megabytes, wait_for

#: Seconds that a setting is measured on a GPU, and an epoch with loader processes.
MEASURED_S, LOADED_S = 0.6, 3.0
LOADERS = (0, 8, 14)
#: Batches after which the loaders have filled their queues.
FILLED_AFTER = 4

FORMATS = ("fp32", "default", "tf32", "bf16")
"""fp32 without TF32 anywhere; torch's default, with TF32 in convolutions alone; TF32 everywhere; bfloat16."""


@dataclass(frozen=True)
class Setting:
    """How a network computes."""

    number_format: str
    channels_last: bool = True
    deterministic: bool = False

    @property
    def name(self) -> str:
        memory = "channels last" if self.channels_last else "contiguous"
        return f"{self.number_format}, {memory}{', deterministic' if self.deterministic else ''}"


@dataclass(frozen=True)
class Network:
    """A network to be measured, and its input."""

    model: str
    image_size: int
    batch_size: int

    def values(self, plan: Plan) -> dict[str, JsonValue]:
        if not plan.on_gpu:
            return {"model": "resnet18", "image_size": 32, "batch_size": 4}
        return {
            "model": self.model,
            "image_size": self.image_size,
            "batch_size": self.batch_size,
        }


RESNET50 = Network("resnet50", 224, 128)
RESNET50_LARGE = Network("resnet50", 224, 256)
FPN = Network("smp/fpn_resnet50", 256, 32)
DEEPLAB = Network("smp/deeplabv3plus_resnet50", 256, 32)

MAIN_SETTINGS = [
    *(Setting(number_format) for number_format in FORMATS),
    *(Setting(number_format, deterministic=True) for number_format in ("default", "bf16")),
    Setting("bf16", channels_last=False),
]
FULL_SETTINGS = [
    *MAIN_SETTINGS,
    Setting("tf32", channels_last=False),
    Setting("tf32", deterministic=True),
    Setting("fp32", deterministic=True),
]
LARGE_SETTINGS = [Setting("default"), Setting("bf16")]


def images_per_second(plan: Plan, network: Network, setting: Setting) -> Values:
    """The product's step on one batch that stays in the memory of the device."""
    switches: dict[str, JsonValue] = {
        "amp": "on" if setting.number_format == "bf16" else "off",
        "channels_last": setting.channels_last,
        "deterministic": "exact" if setting.deterministic else "fast",
        "ema_decay": 0.0,
    }
    batch = _batch(plan, network)  # first, because it sets torch's switches too
    training = new_training(plan, {**network.values(plan), **switches})
    _set_tf32(setting.number_format)
    seconds = training.seconds_per_step(itertools.repeat(batch), MEASURED_S if plan.on_gpu else 0.0)
    return {
        "images_per_s": round(training.state.config.batch_size / seconds, 1),
        "ms_per_step": round(1000 * seconds, 2),
        "peak_mb": peak_megabytes(plan),
    }


@cache
def _batch(plan: Plan, network: Network) -> TensorBatch:
    """A batch on the device, the same for all settings: decoding its images would take longer than measuring."""
    return next(new_training(plan, network.values(plan), dataset=PHOTOS).batches())


def _set_tf32(number_format: str) -> None:
    torch.set_float32_matmul_precision("high" if number_format in ("tf32", "bf16") else "highest")
    torch.backends.cudnn.allow_tf32 = number_format != "fp32"


def bare_loop(plan: Plan, amp: bool) -> Values:
    """resnet50 as one would write it by hand, without the product: the ceiling of the rows with loaders."""
    device, (batch_size, size) = plan.torch_device, (128, 224) if plan.on_gpu else (4, 64)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    network = torchvision.models.resnet50(num_classes=3).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    images = torch.randn(batch_size, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 3, (batch_size,), device=device)

    def steps(count: int) -> float:
        began = time.perf_counter()
        for _turn in range(count):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait_for(device)
        return (time.perf_counter() - began) / count

    steps(3 if plan.on_gpu else 1)
    return {"images_per_s": round(batch_size / steps(20 if plan.on_gpu else 1), 1)}


def with_loaders(plan: Plan, loaders: int, augmentation: str, amp: bool) -> Values:
    """The product's steps with the product's loader, which decodes each JPEG file of 500 x 375 pixels again."""
    values: dict[str, JsonValue] = {
        **RESNET50.values(plan),
        "amp": "on" if amp else "off",
        "deterministic": "fast",
        "num_workers": loaders,
        "augmentation": augmentation,
    }
    training = new_training(plan, values, dataset=PHOTOS)
    torch.set_float32_matmul_precision("high")
    batches, batch_size = training.batches(), training.state.config.batch_size
    began = time.perf_counter()
    for _turn in range(1 if loaders == 0 else FILLED_AFTER):
        training.step(batches)
    wait_for(plan.torch_device)
    first_s = time.perf_counter() - began
    limit_s = LOADED_S if plan.on_gpu else 0.0
    trained = batch_size * _turns_per_second(lambda: training.step(batches), plan, limit_s)
    for _turn in range(2 * loaders):  # what was queued meanwhile
        next(batches)
    alone = batch_size * _turns_per_second(lambda: next(batches), plan, limit_s / 2)
    return {
        "images_per_s": round(trained, 1),
        "loader_alone_images_per_s": round(alone, 1),
        "first_steps_s": round(first_s, 2),
    }


def _turns_per_second(turn: Callable[[], object], plan: Plan, limit_s: float) -> float:
    """How often `turn` is done a second."""
    began, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - began < limit_s:
        turn()
        count += 1
    wait_for(plan.torch_device)
    return count / (time.perf_counter() - began)


def cases(plan: Plan) -> list[Case]:
    measured = [
        (RESNET50, "resnet50, batch 128", FULL_SETTINGS),
        (RESNET50_LARGE, "resnet50, batch 256", LARGE_SETTINGS),
        (FPN, "FPN", MAIN_SETTINGS),
        (DEEPLAB, "DeepLabV3+", MAIN_SETTINGS),
    ]
    if plan.quick:
        measured = [(RESNET50, "resnet50, batch 128", [Setting("default", deterministic=True), Setting("bf16")])]
    found = [
        Case(f"{name}: {setting.name}", partial(images_per_second, network=network, setting=setting))
        for network, name, wanted in measured
        for setting in wanted
    ]
    found += [
        Case("bare loop, TF32", partial(bare_loop, amp=False)),
        Case("bare loop, bf16", partial(bare_loop, amp=True)),
    ]
    loaders = LOADERS if plan.on_gpu else (0, 2)
    found += [
        Case(
            f"{count} loaders, {augmentation}, bf16",
            partial(with_loaders, loaders=count, augmentation=augmentation, amp=True),
        )
        for augmentation, counts in (("light", loaders), ("medium", () if plan.quick else loaders[-1:]))
        for count in counts
    ]
    return found


SECTION = Section("speed", "Images per second", 120, cases)
