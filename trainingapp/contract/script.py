"""train.py: a run as a script that needs only the engine (no torch)."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping

from pydantic import JsonValue

from trainingapp.contract.config import RunConfig, config_fields, parse_config
from trainingapp.contract.pretrained import settled_config

TEMPLATE = '''#!/usr/bin/env python3
"""Repeat a run of CV Studio without the studio.

    python train.py --data DATASET_DIR --out DIR

Requires the Python package cvstudio, for its engine; no server and no database. DATASET_DIR is the folder of a dataset
of the studio: dataset.json, samples.jsonl and the images. Checkpoints, validations and metrics (events.jsonl) are
written to DIR. Ctrl-C saves a checkpoint and exits; called again with the same DIR, the script resumes exactly there.
"""

#ABOUT#

import argparse
import logging
import os
import sys
from pathlib import Path

# Must be set before torch is loaded: cuBLAS is deterministic only with it, and waiting threads must not spin.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from trainingapp.contract.config import parse_config
from trainingapp.engine.control import Control
from trainingapp.contract.errors import EngineError
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.engine.loop import train
from trainingapp.contract.run_directory import RunSpec, run_lock

CONFIG = {
#CONFIG#
}


class PrintedLog(EventLog):
    """Writes the event file of the engine and prints the important events."""

    def write(self, event, **place):
        super().write(event, **place)
        if event.type == "log":
            print(event.message, flush=True)
        elif event.type == "metrics" and event.split == "val":
            values = ", ".join(f"{name} {value:.4f}" for name, value in event.values.items())
            print(f"Epoch {self.epoch}, step {self.step}: {values}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder for the result; created if it does not exist")
    parser.add_argument("--weights", type=Path, help="folder for downloaded weights (default: in OUT)")
    parser.add_argument("--start-from", type=Path, help="checkpoint that CONFIG names as start_from")
    options = parser.parse_args()
    config = parse_config(CONFIG)
    if config.start_from and not options.start_from:
        parser.error(f"The run started from the weights of {config.start_from}: pass that file as --start-from.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    spec = RunSpec(
        run_dir=options.out.resolve(),
        config=config,
        dataset_dir=options.data.resolve(),
        weights_cache_dir=(options.weights or options.out / "torch").resolve(),
        attempt=1,
        start_from=options.start_from,
    )
    control = Control()
    control.catch_signals()
    try:
        with run_lock(spec.run_dir, spec.attempt) as lock_fd:
            events = PrintedLog(spec.run_dir / EVENTS_FILE, spec.attempt)
            ended = train(spec, control, events, unwanted_fds=[lock_fd])
    except EngineError as error:
        sys.exit(str(error))
    print(f"The run is {ended}. Its checkpoints are in {spec.run_dir / 'checkpoints'}.")


if __name__ == "__main__":
    main()
'''


def training_script(
    config: RunConfig,
    *,
    name: str,
    fingerprint: str = "",
    environment: Mapping[str, JsonValue] | None = None,
    notes: Iterable[str] = (),
) -> str:
    """The text of train.py for a run of this configuration.

    `fingerprint` is that of its dataset. `environment` is the one that the run recorded; it replaces automatic values
    of the configuration. `notes` are further sentences for the comment at the top.
    """
    made_with = environment or {}
    about = [
        f"The run: {name}",
        *([f"Fingerprint of its dataset: {fingerprint}"] if fingerprint else []),
        *_made_with(made_with),
        "The same machine and versions give bit-identical weights; others give similar ones.",
        *notes,
    ]
    text = TEMPLATE.replace("#ABOUT#", "\n".join(f"# {_in_one_line(line)}" for line in about))
    return text.replace("#CONFIG#", "\n".join(_config_lines(settled(config, made_with))))


def settled(config: RunConfig, environment: Mapping[str, JsonValue]) -> RunConfig:
    """The configuration with the values that the run determined itself: weights, batch size and number of threads."""
    values = settled_config(config.model_dump(mode="json"), environment)
    if config.auto_batch_size and environment.get("batch_size"):
        values |= {"auto_batch_size": False, "batch_size": environment["batch_size"]}
    if not config.cpu_threads and environment.get("cpu_threads"):
        values["cpu_threads"] = environment["cpu_threads"]
    return parse_config(values)


def _made_with(environment: Mapping[str, JsonValue]) -> Iterator[str]:
    if not environment:
        return
    parts = [str(environment[key]) for key in ("python", "platform", "cpu") if environment.get(key)]
    parts += [f"{key} {environment[key]}" for key in ("cuda", "driver", "revision") if environment.get(key)]
    packages = environment.get("packages")
    versions = packages.items() if isinstance(packages, dict) else ()
    yield f"Made with {', '.join(parts)}"
    yield f"and {', '.join(f'{name} {version}' for name, version in versions)}."


def _config_lines(config: RunConfig) -> Iterator[str]:
    """A line for each field, by sections, with its help as a comment."""
    values = config.model_dump(mode="json")
    for section, fields in itertools.groupby(config_fields(config.task).values(), lambda field: field.setting.section):
        yield f"    # {section.key}"
        for field in fields:
            value = values[field.name]
            literal = json.dumps(value) if isinstance(value, str) else repr(value)
            yield f'    "{field.name}": {literal},  # {_in_one_line(field.setting.help)}'


def _in_one_line(text: str) -> str:
    """The text without line breaks, so that names and notes cannot end the comment that contains them."""
    return " ".join(text.split())
