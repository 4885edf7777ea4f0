"""What the machine has."""

import importlib.util
import os
import shutil
import sys
import sysconfig
import time
from pathlib import Path

import pynvml
import torch

from trainingapp.engine.device import available_threads
from trainingapp.engine.environment import environment as recorded_environment
from trainingapp.engine.gpu_check.case import Case, NotApplicable, Plan, Section, Values, needs_gpu
from trainingapp.engine.machine import SHARED_MEMORY
from trainingapp.engine.nvml import gpu_of

GIB = 1 << 30
LEAST_SHARED_MEMORY = GIB
"""Below it loader processes of large batches end with a bus error; Docker gives 64 MB."""


def machine(plan: Plan) -> Values:
    """Versions, cores and memory."""
    shared_gib = shutil.disk_usage(SHARED_MEMORY).total / GIB if SHARED_MEMORY.exists() else 0.0
    values: Values = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.version.cuda else None,
        "python": sys.version.split()[0],
        "cores": available_threads(),
        "ram_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, 1),
        "dev_shm_gib": round(shared_gib, 2),
        "scratch_free_gib": round(shutil.disk_usage(plan.folder).free / GIB, 1),
        "triton": importlib.util.find_spec("triton") is not None,
        "c_compiler": shutil.which("cc") or shutil.which("gcc"),
        "python_headers": (Path(sysconfig.get_paths()["include"]) / "Python.h").exists(),
        "recorded": {**recorded_environment()},
        "variables": {
            name: text for name, text in os.environ.items() if name.startswith(("CUDA", "CUBLAS", "PYTORCH"))
        },
    }
    if shared_gib * GIB < LEAST_SHARED_MEMORY:
        values["problem"] = f"{SHARED_MEMORY} has {shared_gib:.2f} GiB: loader processes may end with a bus error"
    return values


def gpu(plan: Plan) -> Values:
    """The GPU as torch sees it. Its absence is told by "available"."""
    if not torch.cuda.is_available():
        return {"available": False}
    began = time.perf_counter()
    torch.zeros(1, device=plan.device)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    properties = torch.cuda.get_device_properties(0)
    free_bytes, total_bytes = torch.cuda.mem_get_info(0)
    architecture = f"sm_{properties.major}{properties.minor}"
    values: Values = {
        "available": True,
        "count": torch.cuda.device_count(),
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(total_bytes / GIB, 1),
        "free_gib": round(free_bytes / GIB, 1),
        "multiprocessors": properties.multi_processor_count,
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
        "context_s": round(seconds, 2),
        "architectures": [*torch.cuda.get_arch_list()],
    }
    if architecture not in torch.cuda.get_arch_list():
        values["note"] = f"{architecture} has no kernels of its own in this build of torch"
    return values


def driver(plan: Plan) -> Values:
    """The GPU as NVML sees it; what it refuses to tell is None."""
    _needs_usable_gpu(plan)
    handle = gpu_of(plan.torch_device)
    if handle is None:
        return {"problem": "NVML does not know the GPU that torch uses"}
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    questions = {
        "driver": pynvml.nvmlSystemGetDriverVersion,
        "cuda_of_driver": pynvml.nvmlSystemGetCudaDriverVersion_v2,
        "uuid": lambda: pynvml.nvmlDeviceGetUUID(handle),
        "compute_mode": lambda: pynvml.nvmlDeviceGetComputeMode(handle),
        "mig_mode": lambda: pynvml.nvmlDeviceGetMigMode(handle)[0],
        "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "power_limit_w": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "compute_processes": lambda: [one.pid for one in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)],
        "graphics_processes": lambda: [one.pid for one in pynvml.nvmlDeviceGetGraphicsRunningProcesses(handle)],
    }
    values: Values = {"memory_used_gib": round(memory.used / GIB, 2), "own_pid": os.getpid()}
    for name, ask in questions.items():
        try:
            values[name] = ask()
        except pynvml.NVMLError as error:
            values[name] = None
            values[f"{name}_error"] = str(error)
    return values


def compiler(plan: Plan) -> Values:
    """Whether torch.compile works: torchvision compiles `roi_align` where algorithms must be deterministic."""
    _needs_usable_gpu(plan)
    began = time.perf_counter()
    compiled = torch.compile(lambda values: (values * 2).relu().sum())
    result = float(compiled(torch.ones(1000, device=plan.device)))
    return {"seconds": round(time.perf_counter() - began, 1), "is_right": result == 2000.0}


def _needs_usable_gpu(plan: Plan) -> None:
    needs_gpu(plan)
    if not torch.cuda.is_available():
        raise NotApplicable("torch cannot use a GPU")


def cases(plan: Plan) -> list[Case]:
    return [
        Case("machine", machine),
        Case("gpu", gpu),
        Case("driver", driver),
        Case("torch.compile", compiler, budget_s=45, alone=True),
    ]


SECTION = Section("environment", "What the machine has", 60, cases, depends_on_it=True)
