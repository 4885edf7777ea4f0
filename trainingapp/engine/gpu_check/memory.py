"""Memory: what the preflight predicts, and what happens where there is too little."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import pynvml
import torch
from pydantic import JsonValue

from trainingapp.contract.job_request import JobRequest
from trainingapp.engine.autobatch import find_batch_size
from trainingapp.engine.determinism import choose_algorithms
from trainingapp.engine.device import available_threads, choose_precision
from trainingapp.engine.gpu_check.case import Case, Plan, Section, Values, error_record, needs_gpu
from trainingapp.engine.gpu_check.process import Child, in_process
from trainingapp.engine.gpu_check.training import (
    MEGABYTE,
    PHOTOS,
    PauseAfter,
    attempt,
    new_training,
    run_spec,
)
from trainingapp.engine.jobs.preflight import preflight
from trainingapp.engine.tasks.classification.data import Batch
from trainingapp.engine.tasks.registry import read_dataset

SAMPLED_EVERY_S = 0.01
#: Of the free memory that the other process takes.
OTHERS_SHARE = 0.95
CHILD_S = 60.0

NEEDS: dict[str, dict[str, JsonValue]] = {
    "resnet50": {"model": "resnet50", "image_size": 224, "batch_size": 128},
    "FPN": {"model": "smp/fpn_resnet50", "image_size": 256, "batch_size": 32},
    "RetinaNet": {"model": "retinanet_resnet50_fpn", "image_size": 320, "batch_size": 16},
}
HUGE_BATCH = 100_000
#: Of a run whose memory is measured.
STEPS = 3


def predicted(plan: Plan, values: dict[str, JsonValue]) -> Values:
    """The preflight's peak beside what a real run takes of the GPU, which includes context, libraries and reserve."""
    needs_gpu(plan)
    folder = plan.folder / "runs" / "predicted"
    shutil.rmtree(folder, ignore_errors=True)
    with nvml_peak() as in_preflight:
        found = in_process(plan, run_preflight, plan, values, timeout_s=CHILD_S)
    with nvml_peak() as in_run:
        trained = in_process(plan, train_once, plan, values, timeout_s=CHILD_S)
    for part in (found, trained):
        if "error" in part:
            return {"problem": "failed", "detail": part["error"]}
    peak_mb, run_mb = float(str(found["peak_mb"])), in_run.megabytes
    return {
        "preflight_mb": peak_mb,
        "preflight_nvml_mb": in_preflight.megabytes,
        "run_nvml_mb": run_mb,
        "run_allocated_mb": trained["allocated_mb"],
        "run_reserved_mb": trained["reserved_mb"],
        "missing_mb": round(run_mb - peak_mb, 1),
        "fits": found["fits"],
        "preflight_img_s": found["images_per_s"],
    }


def run_preflight(plan: Plan, values: dict[str, JsonValue]) -> Values:
    folder = plan.folder / "runs" / f"preflight-{os.getpid()}"
    folder.mkdir(parents=True)
    spec = run_spec(plan, folder, values, dataset=PHOTOS)
    params = {
        "config": spec.config.model_dump(mode="json"),
        "dataset_dir": str(spec.dataset_dir),
        "runs_dir": str(folder),
        "device": plan.device,
    }
    found = preflight(JobRequest(folder, "preflight", params))
    memory, times = dict(found["memory"]), dict(found["time"])  # type: ignore[call-overload]
    return {
        "peak_mb": round(memory["peak_bytes"] / MEGABYTE, 1),
        "free_mb": round(memory["free_bytes"] / MEGABYTE, 1),
        "fits": memory["fits"],
        "batch_size": memory["batch_size"],
        "images_per_s": round(times["images_per_s"], 1),
    }


def train_once(plan: Plan, values: dict[str, JsonValue]) -> Values:
    """A few steps by the real loop, and a checkpoint."""
    folder = plan.folder / "runs" / f"once-{os.getpid()}"
    attempt(run_spec(plan, folder, values, dataset=PHOTOS), PauseAfter(STEPS))
    shutil.rmtree(folder)
    return {
        "allocated_mb": round(torch.cuda.max_memory_allocated() / MEGABYTE, 1),
        "reserved_mb": round(torch.cuda.max_memory_reserved() / MEGABYTE, 1),
    }


def huge_batch(plan: Plan) -> Values:
    """A batch that no GPU holds: the error must be recognized, and a small batch must fit afterwards."""
    needs_gpu(plan)
    training = new_training(plan, {"model": "resnet18", "image_size": 224, "batch_size": 8}, dataset=PHOTOS)
    batch, device = cast(Batch, next(training.batches())), plan.torch_device
    images = torch.zeros(HUGE_BATCH, 3, 224, 224, dtype=torch.uint8, device=device)
    labels = torch.zeros(HUGE_BATCH, dtype=torch.int64, device=device)
    try:
        training.step(iter([replace(batch, images_NCHW=images, targets=labels)]))
        found: Values = {"problem": "no error"}
    except RuntimeError as error:
        record = error_record(error)
        found = {"error_class": record["error_class"], "message": record["message"]}
        if record["error_class"] != "out_of_memory":
            found["problem"] = f"classified as {record['error_class']}"
    del images, labels
    training.state.optimizer.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    return {**found, "loss_afterwards": float(training.step(iter([batch])))}


def beside_another(plan: Plan) -> Values:
    """A run, and a search for the batch size, while another process holds nearly all memory."""
    needs_gpu(plan)
    other = Child(plan, _hold_memory)
    try:
        held = other.receive(CHILD_S)
        values: dict[str, JsonValue] = {**NEEDS["resnet50"], "batch_size": 512}
        trained = in_process(plan, train_once, plan, values, timeout_s=CHILD_S)
        searched = in_process(plan, search, plan, values, timeout_s=CHILD_S)
        checked = in_process(plan, run_preflight, plan, NEEDS["resnet50"], timeout_s=CHILD_S)
    finally:
        other.end()
    error = trained.get("error")
    error_class = error["error_class"] if isinstance(error, dict) and "error_class" in error else None
    return {
        **(held or {}),
        "error_class": error_class,
        "run": trained,
        "search": searched,
        "preflight": checked,
        **({} if error_class == "out_of_memory" else {"problem": f"the run ended with {error or 'no error'}"}),
    }


def _hold_memory(send: Callable[[Values], None]) -> None:
    free_bytes, _total = torch.cuda.mem_get_info(0)
    block = torch.empty(int(free_bytes * OTHERS_SHARE), dtype=torch.uint8, device="cuda:0")
    send({"held_mb": round(block.numel() / MEGABYTE, 1), "left_mb": round(torch.cuda.mem_get_info(0)[0] / MEGABYTE, 1)})
    threading.Event().wait()  # until it is killed


def search(plan: Plan, values: dict[str, JsonValue]) -> Values:
    """The search for the batch size, as at the start of a run, under bfloat16."""
    spec = run_spec(plan, plan.folder / "runs" / "search", {**values, "amp": "on"}, dataset=PHOTOS)
    precision, _warning = choose_precision(plan.torch_device, amp="on")
    dataset, cpu_threads = read_dataset(spec), available_threads()
    algorithms = choose_algorithms(spec, dataset, precision, None, cpu_threads=cpu_threads)
    began = time.perf_counter()
    trials = find_batch_size(spec, dataset, precision, algorithms, cpu_threads=cpu_threads)
    return {
        "batch_size": trials[-1].batch_size,
        "seconds": round(time.perf_counter() - began, 1),
        "trials": {str(trial.batch_size): round(trial.images_per_s, 1) for trial in trials},
        "reserved_mb": round(torch.cuda.max_memory_reserved() / MEGABYTE, 1) if plan.on_gpu else None,
    }


@dataclass
class NvmlPeak:
    """The most that processes took of the GPU beyond what was taken before; 0 until the block has ended."""

    megabytes: float = 0.0


@contextmanager
def nvml_peak() -> Iterator[NvmlPeak]:
    """Follows the memory of the GPU as NVML gives it, without using CUDA in this process."""
    handle, found, over = visible_gpu(), NvmlPeak(), threading.Event()
    before = largest = pynvml.nvmlDeviceGetMemoryInfo(handle).used

    def follow() -> None:
        nonlocal largest
        while not over.wait(SAMPLED_EVERY_S):
            largest = max(largest, pynvml.nvmlDeviceGetMemoryInfo(handle).used)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.megabytes = round((largest - before) / MEGABYTE, 1)


def visible_gpu() -> object:
    """NVML's handle of the first GPU that CUDA may use, by CUDA_VISIBLE_DEVICES: its number, or the start of its UUID.

    Raises pynvml.NVMLError.
    """
    pynvml.nvmlInit()
    name = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip() or "0"
    if name.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))
    handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    return next((one for one in handles if pynvml.nvmlDeviceGetUUID(one).startswith(name)), handles[0])


def cases(plan: Plan) -> list[Case]:
    needs = dict(list(NEEDS.items())[:1]) if plan.quick else NEEDS
    found = [
        Case(f"preflight: {name}", partial(predicted, values=values), budget_s=90, alone=True)
        for name, values in needs.items()
    ]
    small: dict[str, JsonValue] = {} if plan.on_gpu else {"model": "resnet18", "image_size": 32}
    largest = {**NEEDS["resnet50"], **small}
    return [
        *found,
        Case(f"batch of {HUGE_BATCH}", huge_batch, alone=True),
        Case("another process holds 95 %", beside_another, budget_s=90, alone=True),
        Case("automatic batch size, bf16", partial(search, values=largest), budget_s=90, alone=True),
    ]


SECTION = Section("memory", "Memory: predictions, and what happens without", 110, cases)
