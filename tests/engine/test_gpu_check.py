"""The GPU check itself: tried on the CPU, and its isolation of cases that crash, hang or lose the GPU."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.gpu_check import architectures, sections, table
from trainingapp.engine.gpu_check.case import Case, NotApplicable, Plan, Section, Values
from trainingapp.engine.gpu_check.main import main
from trainingapp.engine.gpu_check.process import in_process
from trainingapp.engine.gpu_check.runner import Runner, SectionResult
from trainingapp.engine.gpu_check.scenes import draw_scenes
from trainingapp.engine.gpu_check.synchronizations import located_warnings

ROOT = Path(__file__).resolve().parents[2]
#: More than any case takes on a busy machine.
BUDGET_S = 1800


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan("cpu", tmp_path)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainingapp.engine", "--gpu-check", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.long
@pytest.mark.slow
def test_two_sections_on_the_cpu(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = command("--device", "cpu", "--quick", "--only", "memory", "--json", str(file), "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == json.loads(file.read_text())
    environment, memory = found["sections"]
    machine = next(case for case in environment["cases"] if case["name"] == "machine")
    assert machine["values"]["torch"] == torch.__version__
    statuses = {case["name"]: case["status"] for case in memory["cases"]}
    assert statuses.pop("automatic batch size, bf16") == "ok"
    assert set(statuses.values()) == {"not_applicable"}
    assert "== memory: " in done.stdout
    assert "memory: automatic batch size, bf16: ok" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = command("--minutes", "0")  # as on a machine that is too busy to do it in a minute
    assert (done.returncode, done.stdout) == (2, "torch cannot use a GPU on this machine.\n")


def test_an_unknown_section_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--only", "memory,colors"])
    assert end.value.code == 2
    assert "unknown section colors; known: environment, families" in capsys.readouterr().err


# Isolation


def results(plan: Plan, monkeypatch: pytest.MonkeyPatch, *cases: Case, minutes: float = BUDGET_S / 60) -> SectionResult:
    section = Section("trial", "Cases of this test", BUDGET_S, lambda plan: cases)
    monkeypatch.setattr(sections, "SECTIONS", (section,))
    return Runner(plan, time.monotonic() + 60 * minutes).run(section)


def process_id(plan: Plan) -> Values:
    return {"pid": os.getpid()}


def crash(plan: Plan) -> Values:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hang(plan: Plan) -> Values:
    threading.Event().wait()
    return {}


def raising(error: Exception) -> Callable[[Plan], Values]:
    def check(plan: Plan) -> Values:
        raise error

    return check


def test_a_case_that_crashes_or_hangs_does_not_hide_the_others(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(
        plan,
        monkeypatch,
        Case("first", process_id),
        Case("crash", crash),
        Case("second", process_id),
        Case("hang", hang, budget_s=3),
        Case("third", process_id),
    )["cases"]
    assert [case["status"] for case in found] == ["ok", "crashed", "ok", "timed_out", "ok"]
    assert "signal SIGSEGV" in str(found[1]["error"]["message"])
    assert any("in crash" in str(line) for line in found[1]["error"]["traceback"])
    assert any("in hang" in str(line) for line in found[3]["error"]["traceback"])


def test_an_error_is_recorded_with_its_place(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = raising(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    (case,) = results(plan, monkeypatch, Case("wrong", wrong))["cases"]
    assert case["status"] == "failed"
    assert case["error"]["error_class"] == "out_of_memory"
    assert case["error"]["last_line"] == "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"
    line = raising.__code__.co_firstlineno + 2
    assert case["error"]["where"] == f"tests/engine/test_gpu_check.py:{line}"


@pytest.mark.long
def test_after_an_error_of_the_device_a_new_process_continues(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("before", "out of memory", "beside", "device", "after")
    checks = (
        process_id,
        raising(RuntimeError("CUDA out of memory.")),
        process_id,
        raising(RuntimeError("CUDA error: device-side assert triggered")),
        process_id,
    )
    found = results(plan, monkeypatch, *map(Case, names, checks))["cases"]
    pids = [case["values"]["pid"] for case in found if case["status"] == "ok"]
    assert [case["status"] for case in found] == ["ok", "failed", "ok", "failed", "ok"]
    assert pids[0] == pids[1] != pids[2]


@pytest.mark.long
def test_a_case_alone_has_a_process_of_its_own(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [Case("a", process_id), Case("b", process_id, alone=True), Case("c", process_id)]
    pids = {case["values"]["pid"] for case in results(plan, monkeypatch, *cases)["cases"]}
    assert len(pids) == 3


def test_without_time_cases_are_skipped_and_named(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(plan, monkeypatch, Case("a", process_id), Case("b", process_id), minutes=0)["cases"]
    assert [(case["name"], case["status"]) for case in found] == [("a", "skipped"), ("b", "skipped")]


def test_the_table_has_a_row_for_each_case(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(
        plan,
        monkeypatch,
        Case("speed", lambda plan: {"images_per_s": 12.5, "sites": ["1.0  step.py:3"]}),
        Case("wrong", lambda plan: {"images_per_s": 0.0, "problem": "too slow"}),
        Case("other", raising(NotApplicable("needs a GPU"))),
    )
    lines = table.text(found).splitlines()
    assert [case["status"] for case in found["cases"]] == ["ok", "problem", "not_applicable"]
    heading = next(number for number, line in enumerate(lines) if "images_per_s" in line)
    assert [line.split()[0] for line in lines[heading + 1 : heading + 4]] == ["speed", "wrong", "other"]
    assert "      1.0  step.py:3" in lines


def fails(message: str) -> Values:
    raise ValueError(message)


def test_a_nested_process_returns_its_error(plan: Plan) -> None:
    found = in_process(plan, fails, "as it should", timeout_s=BUDGET_S)
    assert found["error"]["last_line"] == "ValueError: as it should"  # type: ignore[index, call-overload]
    assert found["error"]["error_class"] == "error"  # type: ignore[index, call-overload]


# What it measures with


def test_warnings_are_counted_by_the_line_outside_of_torch() -> None:
    with located_warnings("synchronizing") as found:
        for _turn in range(2):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
        torch.warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
    line = test_warnings_are_counted_by_the_line_outside_of_torch.__code__.co_firstlineno
    places = {site.split()[0]: times for site, times in found.items()}
    file = "tests/engine/test_gpu_check.py"
    assert places == {f"{file}:{line + 3}": 2, f"{file}:{line + 5}": 1}


def test_scenes_suffice_for_every_task(tmp_path: Path) -> None:
    draw_scenes(tmp_path / "scenes", train=6, val=2, width=96, height=64, files=4, suffix=".jpg")
    index = read_index(tmp_path / "scenes")
    assert set(index.tasks) == set(TASKS)
    assert (len(index.split("train")), len(index.split("val"))) == (6, 2)
    assert index.samples[0].path == index.samples[4].path
    assert all(sample.label >= 0 and sample.boxes and sample.mask for sample in index.samples)


def test_one_architecture_stands_for_each_family() -> None:
    def names(**options: bool) -> list[str]:
        return [model for _task, model in architectures.chosen(Plan("cpu", Path(), **options))]

    listed = [model for task in TASKS.values() for model in task.architectures]
    detectors = [name for name in names() if name in TASKS["detection"].architectures]
    assert detectors == [
        "pan_n",
        "fcos_resnet18_fpn",
        "retinanet_resnet18_fpn",
        "retinanet_resnet50_fpn_v2",
        "fasterrcnn_resnet18_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "ssd300_vgg16",
        "ssdlite320_mobilenet_v3_large",
        "hf/rtdetrv2_r18",
        "hf/dfine_n",
        "hf/rfdetr_nano",
    ]
    assert names(every_architecture=True) == listed
    assert set(names(quick=True)) < set(names()) < set(listed)
