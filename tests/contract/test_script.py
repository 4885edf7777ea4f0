"""train.py repeats a run without the studio, and gives the same weights bit by bit."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.trainers import (
    HARD,
    assert_bit_equal,
    assert_same_result,
    events_of,
    index_of,
    newest_content,
    train_here,
)
from trainingapp.contract.config import parse_config
from trainingapp.contract.run_directory import read_config_file
from trainingapp.contract.script import settled, training_script
from trainingapp.contract.tasks.registry import TASKS


def script_of(run_dir: Path, folder: Path) -> Path:
    """As the run's page gives it."""
    started = next(event for event in events_of(run_dir, "status") if event["state"] == "started")
    config = parse_config(read_config_file(run_dir)["config"])
    path = folder / "train.py"
    path.write_text(training_script(config, name="try", environment=started["environment"]), encoding="utf-8")
    return path


def call(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """In a separate folder, without the configuration of the studio."""
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=script.parent, timeout=240, check=False)


def environment_without_django(script: Path) -> str:
    return script.read_text().replace(
        'if __name__ == "__main__":\n    main()',
        'if __name__ == "__main__":\n    main()\n    assert "django" not in sys.modules',
    )


@pytest.mark.parametrize("threads", [0, pytest.param(1, marks=pytest.mark.long)])
def test_it_gives_the_same_weights_bit_by_bit(new_run, tmp_path: Path, dataset_dir: Path, threads: int) -> None:
    run_dir = new_run(**HARD, cpu_threads=threads, ema_decay=0.9)
    train_here(run_dir)
    script = script_of(run_dir, tmp_path)
    script.write_text(environment_without_django(script))
    out = tmp_path / "out"
    done = call(script, "--data", dataset_dir, "--out", out)
    assert done.returncode == 0, done.stderr
    assert_same_result(out, run_dir)
    assert done.stdout.count("top1") == 3
    assert f"Its checkpoints are in {out / 'checkpoints'}" in done.stdout


@pytest.mark.long
def test_it_repeats_a_run_that_found_its_batch_size_itself(new_run, tmp_path: Path, dataset_dir: Path) -> None:
    run_dir = new_run(auto_batch_size=True, epochs=1)
    train_here(run_dir)
    script = script_of(run_dir, tmp_path)
    done = call(script, "--data", dataset_dir, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    one, other = newest_content(tmp_path / "out"), newest_content(run_dir)
    assert one["config"]["batch_size"] == other["config"]["batch_size"]
    assert_bit_equal(one["model_state_dict"], other["model_state_dict"])


@pytest.mark.long
def test_after_an_interruption_it_continues(new_run, tmp_path: Path, dataset_dir: Path) -> None:
    run_dir = new_run(**{**HARD, "epochs": 6})
    train_here(run_dir)
    script, out = script_of(run_dir, tmp_path), tmp_path / "out"
    command = [sys.executable, str(script), "--data", str(dataset_dir), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (out / "events.jsonl").exists() or not events_of(out, "metrics"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert index_of(out)[-1]["reason"] == "interrupt"
    done = call(script, "--data", dataset_dir, "--out", out)
    assert done.returncode == 0, done.stderr
    assert_same_result(out, run_dir)


def test_errors_are_reported_in_one_line(new_run, tmp_path: Path) -> None:
    run_dir = new_run(epochs=1)
    train_here(run_dir)
    done = call(script_of(run_dir, tmp_path), "--data", tmp_path / "nothing", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "dataset.json" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_the_weights_to_start_from_are_required(tmp_path: Path, straight_run: Path, dataset_dir: Path) -> None:
    config = {"start_from": "run/3/epoch_3.pt", "model": "mobilenet_v3_small", "image_size": 32, "epochs": 1}
    script = tmp_path / "train.py"
    script.write_text(training_script(parse_config({**config, "device": "cpu"}), name="try"))
    missing = call(script, "--data", dataset_dir, "--out", tmp_path / "out")
    assert missing.returncode == 2
    assert "--start-from" in missing.stderr
    weights = straight_run / "checkpoints" / "epoch_3.pt"
    done = call(script, "--data", dataset_dir, "--out", tmp_path / "out", "--start-from", weights)
    assert done.returncode == 0, done.stderr
    assert "tensors were loaded" in done.stdout


@pytest.mark.parametrize("task", sorted(TASKS))
def test_its_configuration_is_that_of_the_run(task: str) -> None:
    config = parse_config({"task": task, "epochs": 7, "amp": "on"})
    text = training_script(config, name="try")
    values: dict[str, Any] = {}
    body = text[text.index("CONFIG = {") :].partition("\n}\n")[0] + "\n}"
    exec(body, values)
    assert parse_config(values["CONFIG"]) == config


@pytest.mark.parametrize("name", ['"""\nimport os', "a\\", "# x\rimport os", "\u2028import os", "小狗"])
def test_names_cannot_break_out_of_a_comment(name: str) -> None:
    text = training_script(parse_config({}), name=name, fingerprint=name, notes=[name])
    compile(text, "train.py", "exec")
    assert [line for line in text.splitlines() if line.startswith("import os")] == ["import os"]


def test_configured_values_take_precedence_over_measured_ones(new_run) -> None:
    config = parse_config({"cpu_threads": 3, "batch_size": 16})
    assert settled(config, {"cpu_threads": 8, "batch_size": 512}) == config
