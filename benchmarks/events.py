"""What one event costs the training loop: building, validating, serializing and writing it.

    python benchmarks/events.py [--quick]

Compares the records of trainingapp/contract/events.py (pydantic) with a plain dictionary and json, as version 0.1 wrote
events, and with msgspec where that is installed. The last line is JSON; the exit status is 1 where an event of the
studio costs more than LIMIT_US.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainingapp.contract.events import EventLog, Log, Metrics, Progress, read_events
from trainingapp.contract.messages.training import FIRST_STEP

LIMIT_US = 20.0
VALUES = {"loss": 1.2345678, "top1": 0.51234, "lr": 0.001234, "images_per_s": 1234.5}
PROGRESS = {"phase": "train", "total_epochs": 30, "total_steps": 9000, "elapsed_s": 12.345, "eta_s": 67.8}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer events")
    count = 2_000 if parser.parse_args().quick else 50_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        log = EventLog(path, attempt=1)
        found = {
            "pydantic: metrics": measured_us(lambda: log.write(Metrics(split="train", values=VALUES)), count),
            "pydantic: progress": measured_us(lambda: log.write(Progress(**PROGRESS)), count),
            "pydantic: log with code": measured_us(lambda: log.log(FIRST_STEP(step=1)), count),
            "dict and json: metrics": measured_us(dictionary_writer(Path(folder) / "dict.jsonl"), count),
        }
        if (write := msgspec_writer(Path(folder) / "msgspec.jsonl")) is not None:
            found["msgspec: metrics"] = measured_us(write, count)
        began = time.process_time()
        kinds = {type(event) for event, _offset in read_events(path, 0, max_bytes=-1)}
        assert kinds == {Metrics, Progress, Log}
        found["pydantic: reading one"] = (time.process_time() - began) / (3 * 5 * count) * 1e6
    print(f"{'event':28} {'us':>6}")
    for name, cost_us in found.items():
        print(f"{name:28} {cost_us:6.1f}")
    written = {name: cost for name, cost in found.items() if name.startswith("pydantic") and "reading" not in name}
    print(json.dumps({"limit_us": LIMIT_US, **{name: round(cost, 2) for name, cost in found.items()}}))
    return int(max(written.values()) > LIMIT_US)


def measured_us(write: Callable[[], object], count: int) -> float:
    """Microseconds of processor time of one call: the best of five rounds: other work only adds."""
    rounds = []
    for _round in range(5):
        began = time.process_time()
        for _number in range(count):
            write()
        rounds.append((time.process_time() - began) / count * 1e6)
    return min(rounds)


def dictionary_writer(path: Path) -> Callable[[], object]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write() -> None:
        event = {"type": "metrics", "time": time.time(), "attempt": 1, "epoch": 1, "step": 1, "split": "train"}
        line = json.dumps({**event, "values": VALUES}, ensure_ascii=False, allow_nan=False) + "\n"
        os.write(descriptor, line.encode())

    return write


def msgspec_writer(path: Path) -> Callable[[], object] | None:
    try:  # no dependency of the studio: `pip install msgspec` to compare
        msgspec = importlib.import_module("msgspec")
    except ImportError:
        return None
    fields = [("time", float), ("attempt", int), ("epoch", int), ("step", int), ("split", str)]
    record = msgspec.defstruct("Metrics", [*fields, ("values", dict[str, float])], tag_field="type", tag="metrics")
    encoder = msgspec.json.Encoder()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write() -> None:
        event = record(time=time.time(), attempt=1, epoch=1, step=1, split="train", values=VALUES)
        os.write(descriptor, encoder.encode(event) + b"\n")

    return write


if __name__ == "__main__":
    sys.exit(main())
