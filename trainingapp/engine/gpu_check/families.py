"""Each family of architectures: a short run by the real loop, straight and with a pause, compared bit by bit."""

import shutil
import time
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from pydantic import JsonValue

from trainingapp.contract.errors import classify
from trainingapp.engine.gpu_check.architectures import QUICK, Network, chosen, compiles
from trainingapp.engine.gpu_check.case import Case, Plan, Section, Values, error_record, needs_gpu
from trainingapp.engine.gpu_check.training import (
    PauseAfter,
    attempt,
    fresh,
    newest,
    peak_megabytes,
    resume_verdict,
    run_spec,
    weights_digest,
)

#: Errors after which the process cannot use the GPU any longer, or that have nothing to do with algorithms.
NOT_OF_ALGORITHMS = ("device_error", "device_assert", "out_of_memory")
PAUSED_AFTER_STEPS = 3


def pause_and_resume(plan: Plan, network: Network, extra: dict[str, JsonValue]) -> Values:
    """Both runs with deterministic algorithms, as is the default; without, where these are refused or compile first."""
    if plan.on_gpu and compiles(network[1]):
        return _two_runs(plan, network, {**extra, "deterministic": "fast"})
    try:
        return _two_runs(plan, network, {**extra, "deterministic": "exact"})
    except Exception as error:
        if not plan.on_gpu or classify(error).error_class in NOT_OF_ALGORITHMS:
            raise
        refused = error_record(error)
    fresh(plan)
    found = _two_runs(plan, network, {**extra, "deterministic": "fast"})
    return {**found, "refused": refused, "problem": f"deterministic algorithms: {refused['message']}"}


def _two_runs(plan: Plan, network: Network, extra: dict[str, JsonValue]) -> Values:
    task, model = network
    values: dict[str, JsonValue] = {"task": task, "model": model, **extra}
    folder = plan.folder / "runs" / f"{task}-{model.replace('/', '-')}"
    shutil.rmtree(folder, ignore_errors=True)
    straight = run_spec(plan, folder / "straight", values)
    began = time.perf_counter()
    ended = [attempt(straight)]
    straight_s = time.perf_counter() - began
    parted = run_spec(plan, folder / "parted", values)
    ended += [attempt(parted, PauseAfter(PAUSED_AFTER_STEPS)), attempt(replace(parted, attempt=2))]
    verdict, reason = resume_verdict(parted.run_dir)
    is_equal = weights_digest(straight.run_dir) == weights_digest(parted.run_dir)
    metrics = newest(straight.run_dir).metrics
    shutil.rmtree(folder)
    is_right = ended == ["completed", "paused", "completed"] and (
        (verdict == "exact" and is_equal) or straight.config.deterministic == "fast"
    )
    return {
        "ended": " ".join(ended),
        "deterministic": straight.config.deterministic,
        "amp": straight.config.amp,
        "resume_check": verdict,
        "reason": reason,
        "bit_equal": is_equal,
        "run_s": round(straight_s, 2),
        "peak_mb": peak_megabytes(plan),
        "validation": {**metrics},
        **({} if is_right else {"problem": f"{' '.join(ended)}, {verdict}, bit-equal: {is_equal}"}),
    }


def export_to_onnx(plan: Plan, network: Network) -> Values:
    """A run on the device, exported on the CPU and compared with PyTorch there, as a job of the studio does it."""
    from trainingapp.engine.export import drawn_images, export  # load onnx, which nothing else here needs
    from trainingapp.engine.model_files import take_checkpoint

    task, model = network
    folder = plan.folder / "runs" / f"export-{task}"
    spec = run_spec(plan, folder / "run", {"task": task, "model": model})
    attempt(spec)
    card = {
        "name": "check",
        "version": 1,
        "task": task,
        "architecture": model,
        "classes": ["disk", "square", "triangle"],
        "image_size": spec.config.image_size,
        "normalisation": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "config": spec.config.model_dump(mode="json"),
    }
    take_checkpoint(card, spec.run_dir / "checkpoints" / newest(spec.run_dir).file, folder)
    images = drawn_images(folder / "images", 2)
    began = time.perf_counter()
    done = export(card, folder / "weights.safetensors", ["onnx"], images, folder, lambda *_report: None)
    shutil.rmtree(folder)
    outcome = cast(dict[str, Values], done["formats"])["onnx"]
    return {"export_s": round(time.perf_counter() - began, 1), **outcome}


def repeated_gradients(plan: Plan) -> Values:
    """Bit-equality of a plain convolution and a matrix product over five repetitions, with the default switches."""
    needs_gpu(plan)
    generator = torch.Generator(plan.device).manual_seed(0)
    images = torch.randn(16, 64, 56, 56, device=plan.device, generator=generator)
    kernel = torch.randn(64, 64, 3, 3, device=plan.device, generator=generator, requires_grad=True)
    found = set()
    for _turn in range(5):
        (gradient,) = torch.autograd.grad(torch.conv2d(images, kernel, padding=1).square().sum(), kernel)
        found.add(float(gradient.double().sum()))
    return {"different_gradients": len(found)}


def cases(plan: Plan) -> list[Case]:
    ways: list[tuple[str, Network, dict[str, JsonValue]]] = [
        (f"{task} {model}", (task, model), {}) for task, model in chosen(plan)
    ]
    loaders: tuple[str, Network, dict[str, JsonValue]] = (
        "resnet18, 2 loaders, bf16, EMA",
        QUICK[0],
        {"num_workers": 2, "amp": "on", "ema_decay": 0.99, "augmentation": "strong"},
    )
    runs = [
        Case(name, partial(pause_and_resume, network=network, extra=extra), budget_s=90)
        for name, network, extra in (*ways, loaders)
    ]
    exports = [Case(f"{task}: ONNX", partial(export_to_onnx, network=(task, model))) for task, model in QUICK[:3]]
    return [*runs, *([] if plan.quick else exports), Case("repeated gradients", repeated_gradients)]


SECTION = Section("families", "Train, pause, resume: bit-equal to a straight run?", 160, cases)
