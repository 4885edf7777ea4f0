"""The command line of the check."""

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from trainingapp.engine.gpu_check import table
from trainingapp.engine.gpu_check.case import Plan
from trainingapp.engine.gpu_check.runner import CaseResult, Runner, SectionResult
from trainingapp.engine.gpu_check.scenes import draw_scenes
from trainingapp.engine.gpu_check.sections import SECTIONS
from trainingapp.engine.gpu_check.training import PHOTOS, SCENES

EXIT_PROBLEMS, EXIT_NO_GPU = 1, 2
MINUTES = 10.0
#: Loaded once, before the forks.
LIBRARIES = (
    "timm",
    "segmentation_models_pytorch",
    "faster_coco_eval",
    "torch.utils.tensorboard",
    "trainingapp.engine.tasks.classification.task",
    "trainingapp.engine.tasks.detection.task",
    "trainingapp.engine.tasks.segmentation.task",
)
PROBLEMS = ("problem", "failed", "timed_out", "crashed")


def main(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    with tempfile.TemporaryDirectory(prefix="gpu-check-", dir=options.folder) as folder:
        plan = Plan(options.device, Path(folder), options.quick, options.all)
        runner = Runner(plan, time.monotonic() + 60 * options.minutes)
        for name in LIBRARIES:
            try:
                importlib.import_module(name)
            except ImportError as error:  # the cases that need it say so
                runner.say(f"{name} cannot be imported: {error}")
        return _checked(plan, runner, options.only, options.json)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainingapp.engine --gpu-check",
        description="Measure what the trainer does on this machine's GPU. Prints tables; the last line is JSON. "
        "Exit status: 0 no problem, 1 problems, 2 no GPU.",
    )
    names = [section.name for section in SECTIONS]
    parser.add_argument(
        "--only", type=_names, default=names, metavar="A,B", help=f"of these sections: {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer networks and settings: about two minutes")
    parser.add_argument("--all", action="store_true", help="every architecture instead of one of each family")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="skip what does not begin in time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here, after each section")
    parser.add_argument("--folder", type=Path, help="where scenes and runs are written (default: a temporary folder)")
    parser.add_argument("--device", choices=["cuda:0", "cpu"], default="cuda:0", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    known = [section.name for section in SECTIONS]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := set(names) - set(known):
        raise argparse.ArgumentTypeError(f"unknown section {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return names


def _draw(plan: Plan) -> None:
    few = not plan.on_gpu
    draw_scenes(plan.folder / SCENES, train=32, val=8, width=96, height=96, files=40, suffix=".png")
    # More than fit into the memory that keeps decoded images, so that the loader decodes each time.
    count = 16 if few else 4608
    draw_scenes(plan.folder / PHOTOS, train=count, val=8, width=500, height=375, files=16 if few else 64, suffix=".jpg")


def _checked(plan: Plan, runner: Runner, only: Sequence[str], json_file: Path | None) -> int:
    results: list[SectionResult] = []
    # The first one always: it says whether there is a GPU.
    wanted = [section for section in SECTIONS if section is SECTIONS[0] or section.name in only]
    for number, section in enumerate(wanted, start=1):
        runner.say(f"{section.name}: {section.title}")
        results.append(runner.run(section, wanted[number:]))
        summary = _summary(plan, results)
        if json_file:
            json_file.write_text(json.dumps(summary, default=str) + "\n")
        if plan.on_gpu and not _has_gpu(results[0]):
            sys.stdout.write("torch cannot use a GPU on this machine.\n")
            return EXIT_NO_GPU
        sys.stdout.write(table.text(results[-1]) + "\n")
        sys.stdout.flush()
        if section is wanted[0]:
            _draw(plan)
    wrong = [(one["name"], case) for one in results for case in one["cases"] if case["status"] in PROBLEMS]
    sys.stdout.write(f"\n{len(wrong)} problems\n")
    sys.stdout.writelines(f"  {section}: {case['name']}: {_problem(case)}\n" for section, case in wrong)
    sys.stdout.write(json.dumps(summary, default=str) + "\n")
    return EXIT_PROBLEMS if wrong else 0


def _has_gpu(environment: SectionResult) -> bool:
    found = [case for case in environment["cases"] if case["name"] == "gpu"]
    # A GPU that fails is still one.
    return any(case.get("values", {}).get("available", True) for case in found)


def _problem(case: CaseResult) -> str:
    error = case.get("error", {})
    return str(case.get("values", {}).get("problem") or error.get("last_line") or error.get("message", ""))


def _summary(plan: Plan, results: Sequence[SectionResult]) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": plan.device,
        "quick": plan.quick,
        "sections": list(results),
    }
