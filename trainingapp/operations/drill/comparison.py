"""Comparison of a run that was killed with a run that was not."""

import hashlib
import json
from dataclasses import dataclass

from pydantic import JsonValue

from trainingapp.contract.system_series import SYSTEM
from trainingapp.operations.drill.installation import Installation

#: Metrics that depend on the speed of the machine. All others must be equal.
SPEEDS = frozenset({"images_per_s", "seconds", "validation_s"})

#: Step, split, then name and value of each metric.
Point = tuple[int | str | tuple[str, JsonValue], ...]


@dataclass(frozen=True)
class Facts:
    """What must be equal: hashes of the parts of the last checkpoint, all metrics, all evaluations.

    What was measured of the machine is another thing each time.
    """

    weights: dict[str, str]
    points: list[Point]
    evaluations: dict[str, str]


def facts_of(studio: Installation, run_id: int) -> Facts:
    """Read the facts of a completed run. Raises DrillError where it has no valid checkpoint."""
    points: list[Point] = []
    for event in studio.metrics(run_id):
        if not event["superseded"] and event["data"]["split"] != SYSTEM:
            values = {name: value for name, value in event["data"]["values"].items() if name not in SPEEDS}
            points.append((event["step"], event["data"]["split"], *sorted(values.items())))
    evaluations = {}
    for path in sorted(studio.run_folder(run_id).glob("evaluations/*.json")):
        content = json.dumps(json.loads(path.read_text()), sort_keys=True)  # the order of keys is no difference
        evaluations[path.name] = hashlib.sha256(content.encode()).hexdigest()
    return Facts(studio.checkpoint_hashes(run_id), sorted(points, key=repr), evaluations)


def differences(ours: Facts, expected: Facts) -> list[str]:
    """The differences from the run that was not killed, one sentence each."""
    found = [f"{part} differs" for part in expected.weights if ours.weights.get(part) != expected.weights[part]]
    if not expected.points:
        found.append("the run that was not killed has no metrics to compare with")
    missing = [point[:2] for point in expected.points if point not in ours.points]
    extra = [point[:2] for point in ours.points if point not in expected.points]
    if missing or extra or len(ours.points) != len(expected.points):
        found.append(f"metrics differ: {len(missing)} points are missing or differ, {len(extra)} are extra")
    if ours.evaluations != expected.evaluations:
        found.append("evaluations differ")
    return found


def gaps(studio: Installation, run_id: int, received: list[int]) -> list[str]:
    """Events that are duplicated or missing in the database, in the file, or in the numbers read from the stream."""
    run = studio.run(run_id)
    expected = list(range(1, run["event_seq"] + 1))
    found = []
    if studio.numbers(run_id) != expected:
        found.append("the numbers of the stored events have gaps")
    size = (studio.run_folder(run_id) / "events.jsonl").stat().st_size
    if run["event_offset"] != size:
        found.append(f"{size - run['event_offset']} bytes of events were not stored")
    if received != expected:
        twice = len(received) - len(set(received))
        missed = len(set(expected) - set(received))
        found.append(f"the reader of the stream received {twice} events twice and missed {missed}")
    return found
