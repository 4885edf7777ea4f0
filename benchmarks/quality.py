"""Compare what our default detector and Ultralytics' learn in the same minutes, both from scratch.

Three sets of images: the demo scenes, small and crowded objects, and cut-outs on photographs. Both sides train with the
defaults of their own program, images of the same size, one thread and no loader process, at the same time. Minutes are
those of the processor that training takes; validation is left out for both. After each epoch both write what they
find in the validation images, with the weights that they would validate, and one code evaluates both (COCO's
metrics, by faster-coco-eval). At a minute, the newest epoch counts that had ended. `ahead` says whether ours has the
higher AP50 and the higher AP at every minute on every set.

Ultralytics is under the AGPL and no part of the studio: it is only imported by a process of this benchmark, from the
folder given, into which it is installed where it is missing. It sends nothing: its settings are off.

    python benchmarks/quality.py --quick
    python benchmarks/quality.py --minutes 3 --out /tmp/quality
"""

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.quality_sets import STAMPS, ImageSet, crowd_set, scene_set, stamp_set, write_set  # noqa: E402
from trainingapp.contract.dataset_index import read_index  # noqa: E402
from trainingapp.engine.tasks.detection.metrics import CocoScores, ImageResult  # noqa: E402

SIDES = ("ours", "theirs")
NEEDED = ("ultralytics", "opencv-python-headless", "polars", "polars-runtime-32", "ultralytics-thop", "scikit-image")
"""With `--no-deps`: what else it needs is installed with the studio, and its own torch would be a second one."""

EXTRA = ("lazy-loader", "tifffile", "imageio")
INK = {"ours": "#0d6efd", "theirs": "#6c757d"}


@dataclass(frozen=True)
class Point:
    """The quality after an epoch that ended with this minute of training."""

    minutes: float
    ap50: float
    ap: float


Curves = dict[str, list[Point]]
"""Of each side."""


def main() -> None:
    arguments = _arguments()
    with contextlib.ExitStack() as stack:
        out = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quality-")))
        out.mkdir(parents=True, exist_ok=True)
        arguments.target = arguments.target or out / "ultralytics"
        if not arguments.evaluate:
            _install(arguments.target)
        sys.path.append(str(arguments.target))  # photographs of scikit-image
        curves = {one.name: _measured(out / one.name, one, arguments) for one in _sets(arguments)}
        (out / "quality.svg").write_text(drawing(curves, arguments.minutes))
        marks = _marks(arguments.minutes)
        _print_table(curves, marks)
        figures = {
            name: {
                side: [_at(points, mark, arguments.minutes).__dict__ for mark in marks] for side, points in both.items()
            }
            for name, both in curves.items()
        }
        ahead = all(_is_ahead(both, mark, arguments.minutes) for both in curves.values() for mark in marks)
        print(f"drawn in {out / 'quality.svg'}" if arguments.out else "(--out FOLDER keeps the drawing)")
        about = {"benchmark": "quality", "quick": arguments.quick, "opponent": arguments.opponent, "marks": marks}
        print(json.dumps({**about, "ahead": ahead, "figures": figures}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=3.0, help="processor minutes of each run (%(default)s)")
    parser.add_argument("--images", type=int, default=1200, help="images of a set (%(default)s); a fifth is val")
    parser.add_argument(
        "--sets", nargs="+", choices=["scenes", "crowd", "stamps"], default=["scenes", "crowd", "stamps"]
    )
    parser.add_argument("--stamps", type=Path, default=STAMPS, help="folder of cut-outs (%(default)s)")
    parser.add_argument("--opponent", default="yolo11n", help="network of Ultralytics (%(default)s)")
    parser.add_argument("--target", type=Path, help="folder that has Ultralytics, or gets it; else a temporary one")
    parser.add_argument("--set", action="append", default=[], help="NAME=JSON: a field of our configuration")
    parser.add_argument("--out", type=Path, help="folder for the drawing, the sets and what was found")
    parser.add_argument("--evaluate", action="store_true", help="only evaluate what an earlier call left in --out")
    parser.add_argument("--quick", action="store_true", help="a third of a minute, 160 images, demo scenes and stamps")
    found = parser.parse_args()
    if found.quick:
        found.minutes, found.images, found.sets = 0.33, 160, ["scenes", "stamps"]
    return found


def _sets(arguments: argparse.Namespace) -> list[ImageSet]:
    found = []
    if "scenes" in arguments.sets:
        found.append(scene_set(arguments.images))
    if "crowd" in arguments.sets:
        found.append(crowd_set(arguments.images))
    if "stamps" in arguments.sets:
        stamps = stamp_set(arguments.images, arguments.stamps)
        if stamps:
            found.append(stamps)
        else:
            print(f"No cut-outs in {arguments.stamps}: apt-get install tuxpaint-stamps-default. The set is left out.")
    return found


def _measured(folder: Path, content: ImageSet, arguments: argparse.Namespace) -> Curves:
    """Train both sides at the same time, and evaluate what they wrote."""
    data = folder / "data"
    if not arguments.evaluate:
        write_set(data, content)
        script = str(Path(__file__).with_name("quality_sides.py"))
        options = [
            "--minutes",
            str(arguments.minutes),
            "--opponent",
            arguments.opponent,
            "--target",
            str(arguments.target),
        ]
        options += [part for pair in arguments.set for part in ("--set", pair)]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment = {**os.environ, **one_thread, "PYTHONPATH": str(ROOT)}
        running = []
        for side in SIDES:
            with (folder / f"{side}.log").open("wb") as log:
                command = [sys.executable, script, side, str(data), str(folder / side), *options]
                running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        for side, process in zip(SIDES, running, strict=True):
            if process.wait():
                tail = (folder / f"{side}.log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"{content.name}, {side} failed:\n{tail}")
    return {side: _evaluated(data, folder / side / "run") for side in SIDES}


def _install(target: Path) -> None:
    """Ultralytics into a folder of its own, where it is not there and cannot be imported anyway."""
    if (target / "ultralytics").is_dir() or importlib.util.find_spec("ultralytics"):
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*command, *NEEDED, *EXTRA], check=True)


def _evaluated(data: Path, found: Path) -> list[Point]:
    """AP50 and AP after each epoch, from the detections that a side has written."""
    index = read_index(data)
    points = []
    for file in sorted(found.glob("*.npz")):
        with np.load(file) as stored:
            rows, seconds = stored["rows"], float(stored["seconds"])
        images = [
            ImageResult.of(number, sample.boxes, own[:, 3:], own[:, 1].astype(np.int64), own[:, 2])
            for number, sample in enumerate(index.split("val"))
            for own in [rows[rows[:, 0] == number]]
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            values = CocoScores.of(images, len(index.classes)).values() if len(rows) else {"ap50": 0.0, "ap": 0.0}
        points.append(Point(seconds / 60, values["ap50"], values["ap"]))
    return points


def _marks(minutes: float) -> list[float]:
    """Every full minute and the end; of less than two minutes, three parts."""
    if minutes < 2:
        return [minutes / 3, minutes * 2 / 3, minutes]
    return [float(mark) for mark in range(1, math.ceil(minutes))] + [minutes]


def _at(points: Sequence[Point], mark: float, minutes: float) -> Point:
    """The newest epoch that had ended at a minute. The end of the run counts for the last one: a run has whole epochs,
    so that it ends a little before or after."""
    if mark >= minutes:
        return points[-1]
    ended = [point for point in points if point.minutes <= mark]
    return ended[-1] if ended else Point(mark, 0.0, 0.0)


def _is_ahead(both: Curves, mark: float, minutes: float) -> bool:
    ours, theirs = (_at(both[side], mark, minutes) for side in SIDES)
    return ours.ap50 > theirs.ap50 and ours.ap > theirs.ap


def _print_table(curves: dict[str, Curves], marks: Sequence[float]) -> None:
    print(f"{'set':10} {'minute':>7} {'AP50 ours':>10} {'theirs':>7} {'AP ours':>9} {'theirs':>7}")
    for name, both in curves.items():
        for mark in marks:
            ours, theirs = (_at(both[side], mark, marks[-1]) for side in SIDES)
            print(f"{name:10} {mark:7.2f} {ours.ap50:10.3f} {theirs.ap50:7.3f} {ours.ap:9.3f} {theirs.ap:7.3f}")
        ends = ", ".join(f"{side} {both[side][-1].minutes:.2f} min, {len(both[side])} epochs" for side in SIDES)
        print(f"{'':10} ({ends})")


def drawing(curves: dict[str, Curves], minutes: float) -> str:
    """SVG: for each set one chart of AP50 (solid) and AP (dashed) against minutes, for both sides."""
    width, height, margin = 300, 220, 36
    longest = max([minutes, *(point.minutes for both in curves.values() for side in both.values() for point in side)])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(curves)}" height="{height + 24}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    for place, (name, both) in enumerate(curves.items()):
        left, top, right, bottom = place * width + margin, 24, (place + 1) * width - 12, height - margin
        parts.append(f'<text x="{left}" y="16" font-weight="bold">{name}</text>')
        for tenth in range(0, 11, 2):
            y = bottom - (bottom - top) * tenth / 10
            parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#dee2e6"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
        for mark in range(math.floor(longest) + 1):
            x = left + (right - left) * mark / longest
            parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{mark}</text>')
        for side, points in both.items():
            for field, dash in (("ap50", ""), ("ap", ' stroke-dasharray="4 3"')):
                line = " ".join(
                    f"{left + (right - left) * point.minutes / longest:.1f},"
                    f"{bottom - (bottom - top) * getattr(point, field):.1f}"
                    for point in points
                )
                parts.append(f'<polyline points="{line}" fill="none" stroke="{INK[side]}" stroke-width="2"{dash}/>')
    legend = "minutes of training · solid AP50, dashed AP · "
    parts.append(f'<text x="{margin}" y="{height + 8}">{legend}<tspan fill="{INK["ours"]}">ours</tspan> · ')
    parts.append(f'<tspan fill="{INK["theirs"]}">theirs</tspan></text></svg>')
    return "".join(parts)


if __name__ == "__main__":
    main()
