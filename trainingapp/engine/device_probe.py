"""Whether torch can train on a GPU: `python -m trainingapp.engine.device_probe [NUMBER]`.

The worker starts it for each GPU with CUDA_VISIBLE_DEVICES set to that GPU or slice, because a GPU that was lost, or
whose driver hangs, takes down the process that opens it. With a NUMBER, that of the GPUs that torch sees is tried;
without one, the backend and the GPUs are listed only. --memory also writes and reads a part of its free memory.

Prints a line of JSON (contract/device_report.py).
"""

import argparse
import json
import sys

import torch

from trainingapp.contract.device_report import DeviceReport, SeenDevice, Trouble
from trainingapp.contract.errors import error_sign, is_out_of_memory

#: Parts of torch's errors that are told apart here beyond the classes of failures. The first that is found counts.
SIGNS: tuple[tuple[str, Trouble], ...] = (
    ("not compiled with cuda", "cpu_build"),
    ("error 803", "driver"),  # the driver and the kernel module do not match
    ("error 804", "driver"),  # the compatibility package does not support the GPU
    ("no kernel image", "architecture"),
    ("busy or unavailable", "busy"),
    ("gpu is lost", "lost"),
    ("fallen off the bus", "lost"),
)
#: Side of the matrices, whose products are whole numbers below 2**24: float32, TF32 and CPU agree bit by bit.
SIDE = 256
#: Memory that is written and read, at most, and as a share of what is free.
TESTED_BYTES = 4 << 30
TESTED_SHARE = 0.5


def report(number: int | None, *, with_memory: bool = False) -> DeviceReport:
    """Try the GPU of this number; without one, list what there is."""
    backend, version = backend_of_torch()
    found: DeviceReport = {
        "torch": torch.__version__,
        "backend": backend,
        "backend_version": version,
        "devices": [],
        "trouble": "",
        "error": "",
    }
    try:
        if number is not None:
            device = torch.device("cuda", number)
            try_device(device)
            if with_memory:
                try_memory(device)
        found["devices"] = seen_devices()
    except (RuntimeError, AssertionError) as error:
        lines = str(error).strip().splitlines()
        found["trouble"], found["error"] = trouble_of(error), (lines[0] if lines else type(error).__name__)[:300]
    return found


def backend_of_torch() -> tuple[str, str]:
    """The backend that this torch has for the GPUs of this machine, and the version that it was built for."""
    if torch.version.hip:
        return "rocm", torch.version.hip
    if torch.version.cuda:
        return "cuda", torch.version.cuda
    if torch.xpu.is_available():
        return "xpu", ""
    return ("mps" if torch.backends.mps.is_available() else "cpu"), ""


def seen_devices() -> list[SeenDevice]:
    """The GPUs of CUDA or ROCm, in torch's order."""
    found: list[SeenDevice] = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        uuid = str(getattr(properties, "uuid", ""))
        found.append({"name": properties.name, "uuid": uuid, "memory_bytes": properties.total_memory})
    return found


def try_device(device: torch.device) -> None:
    """A step of training with a known result. Raises RuntimeError where it cannot be made or is wrong."""
    left = torch.arange(SIDE * SIDE, dtype=torch.float32).reshape(SIDE, SIDE) % 7
    image = (left % 3).reshape(1, 1, SIDE, SIDE)
    kernel = torch.arange(9, dtype=torch.float32).reshape(1, 1, 3, 3)
    expected = (left @ left.T).sum() + torch.nn.functional.conv2d(image, kernel).sum()
    with torch.enable_grad():
        weight = kernel.to(device).requires_grad_()
        there = left.to(device)
        value = (there @ there.T).sum() + torch.nn.functional.conv2d(image.to(device), weight).sum()
        value.backward()
    torch.cuda.synchronize(device)
    # Sums of whole numbers beyond 2**24 are rounded, in another order on each device.
    if not torch.isclose(value.cpu(), expected, rtol=1e-4) or weight.grad is None or not weight.grad.isfinite().all():
        raise RuntimeError(f"A computation gave {float(value):g} instead of {float(expected):g}.")


def try_memory(device: torch.device) -> None:
    """Write a pattern to free memory and compare it. Raises RuntimeError where it is not what was written."""
    free_bytes, _total = torch.cuda.mem_get_info(device)
    count = int(min(TESTED_BYTES, free_bytes * TESTED_SHARE)) // 8  # two blocks of 4-byte numbers
    first = torch.arange(count, dtype=torch.int32, device=device)
    second = torch.empty_like(first).copy_(first)
    if not torch.equal(first, second) or int(first[-1]) != count - 1:
        raise RuntimeError("Memory of the GPU did not keep what was written to it.")


def trouble_of(error: BaseException) -> Trouble:
    if is_out_of_memory(error):
        return "full"
    text = str(error).lower()
    rest: Trouble = "driver" if error_sign(error) == "driver" else "error"
    return next((trouble for sign, trouble in SIGNS if sign in text), rest)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trainingapp.engine.device_probe")
    parser.add_argument("number", nargs="?", type=int, metavar="NUMBER")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(report(options.number, with_memory=options.memory)) + "\n")


if __name__ == "__main__":
    main()
