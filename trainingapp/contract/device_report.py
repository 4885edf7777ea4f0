"""What a process that tried a GPU with torch reports to the worker, as one line of JSON (no torch)."""

import json
from typing import Literal, TypedDict

#: cpu_build: torch was built for CPUs. driver: the driver is too old for torch, or missing. architecture: torch has no
#: kernels for the GPU. busy: another process has it, in exclusive-process mode. full: no memory is free on it. lost:
#: the driver has lost it. timeout: torch did not respond. error: anything else.
Trouble = Literal["", "cpu_build", "driver", "architecture", "busy", "full", "lost", "timeout", "error"]


class SeenDevice(TypedDict):
    """A GPU that torch can see."""

    name: str
    #: Without a prefix; empty where the backend has none.
    uuid: str
    memory_bytes: int


class DeviceReport(TypedDict):
    """`trouble` is empty where torch trained a step on the GPU; `error` is the first line of its error."""

    torch: str
    #: cuda, rocm, xpu, mps or cpu: what this build of torch can use on this machine, and its version where it has one.
    backend: str
    backend_version: str
    devices: list[SeenDevice]
    trouble: Trouble
    error: str


def failed_report(trouble: Trouble, error: str) -> DeviceReport:
    """The report about a process that could not write one."""
    return {"torch": "", "backend": "", "backend_version": "", "devices": [], "trouble": trouble, "error": error}


def read_report(output: str) -> DeviceReport:
    """The report in the output of the process: its last line, since libraries may print lines before it.

    Without one, the last line is the error.
    """
    last = (output.strip().splitlines() or [""])[-1]
    try:
        report: DeviceReport = {**failed_report("error", ""), **json.loads(last)}
    except (ValueError, TypeError):
        return failed_report("error", last[:300])
    return report
