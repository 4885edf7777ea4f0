"""Whether a run that was killed is the run that nobody disturbed."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainingapp.operations.drill.installation import DrillError, Installation

#: Of the metrics: what says how fast the machine was, not what the run is.
SPEEDS = frozenset({"images_per_s", "seconds", "validation_s"})


@dataclass(frozen=True)
class Facts:
    """What must be equal: hashes of the last checkpoint's parts, every point of the curves, every evaluation."""

    weights: dict[str, str]
    points: list[tuple[Any, ...]]
    evaluations: dict[str, str]


def facts_of(studio: Installation, run_id: int) -> Facts:
    points = [
        (event["step"], event["data"]["split"], *sorted(_values(event["data"]).items()))
        for event in studio.events(run_id, "metrics")
        if not event["superseded"]
    ]
    folder = studio.run_folder(run_id)
    evaluations = {path.name: _content_hash(path) for path in sorted(folder.glob("evaluations/*.json"))}
    return Facts(_weights(studio, run_id), sorted(points, key=repr), evaluations)


def _values(data: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in data["values"].items() if name not in SPEEDS}


def _weights(studio: Installation, run_id: int) -> dict[str, str]:
    sql = "SELECT file FROM trainingapp_checkpoint WHERE run_id = ? AND is_last ORDER BY step DESC, id DESC"
    found = studio.rows(sql, run_id)
    if not found:
        raise DrillError(f"Run {run_id} has no checkpoint.")
    file = studio.run_folder(run_id) / "checkpoints" / found[0]["file"]
    done = subprocess.run(
        [sys.executable, "-m", "trainingapp.engine.digest", str(file)],
        env=studio.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DrillError(done.stderr.strip().splitlines()[-1])
    hashes: dict[str, str] = json.loads(done.stdout)[str(file)]
    return hashes


def _content_hash(path: Path) -> str:
    return hashlib.sha256(json.dumps(json.loads(path.read_text()), sort_keys=True).encode()).hexdigest()


def differences(ours: Facts, expected: Facts) -> list[str]:
    """What is not as in the run that nobody disturbed, in sentences; empty when all is."""
    found = [f"{part} differs" for part in expected.weights if ours.weights.get(part) != expected.weights[part]]
    missing = [point[:2] for point in expected.points if point not in ours.points]
    extra = [point[:2] for point in ours.points if point not in expected.points]
    if missing or extra or len(ours.points) != len(expected.points):
        found.append(f"metrics differ: {len(missing)} points are missing or other, {len(extra)} are too many")
    if ours.evaluations != expected.evaluations:
        found.append("evaluations differ")
    return found


def gaps(studio: Installation, run_id: int, heard: list[int]) -> list[str]:
    """Events that are doubled or missing: in the database, in the file, and for who listened to the stream."""
    run = studio.run(run_id)
    rows = studio.rows("SELECT seq FROM trainingapp_runevent WHERE run_id = ? ORDER BY seq", run_id)
    expected = list(range(1, run["event_seq"] + 1))
    found = []
    if [row["seq"] for row in rows] != expected:
        found.append("the stored events are not numbered without a gap")
    size = (studio.run_folder(run_id) / "events.jsonl").stat().st_size
    if run["event_offset"] != size:
        found.append(f"{size - run['event_offset']} bytes of events were not stored")
    if heard != expected:
        twice = len(heard) - len(set(heard))
        missed = len(set(expected) - set(heard))
        found.append(f"who listened was given {twice} events twice and missed {missed}")
    return found
