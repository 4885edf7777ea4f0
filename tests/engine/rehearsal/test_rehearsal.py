"""Every architecture trains, is paused, resumed and validated on a pretend GPU, on a machine without one.

What the rehearsal cannot show is in `pretend.py`; the GPU check shows that on a real one (engine/gpu_check).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from trainingapp.contract.tasks.registry import TASKS
from trainingapp.engine.gpu_check.architectures import Network, listed, network

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
COMPILER = shutil.which("gcc")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("rehearsal"),
    pytest.mark.skipif(COMPILER is None, reason="the rehearsal needs gcc for its stand-in for the driver"),
    pytest.mark.skipif(torch.version.cuda is None, reason="the rehearsal needs a torch that is built for CUDA"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="here the GPU check shows it on a GPU"),
]

#: Waits for the GPU in a step, at most: for the proposals of detectors in two stages, for the positions of DINOv3, and
#: for the costs of the matching of transformers, whose library also reads the sizes of feature maps in each layer, and
#: the places of noisy objects. Elsewhere there is none.
WAITS = {
    "fasterrcnn_": 4,
    "maskrcnn_": 4,
    "timm/vit_small_patch16_dinov3": 1,
    "timm/vit_base_patch16_dinov3": 1,
    "hf/rtdetrv2": 15,
    "hf/dfine": 13,
    "hf/rfdetr": 2,
    "hf/mask2former_": 160,
}

FIRST = [network("resnet18"), network("smp/unet_resnet18")]
"""Rehearsed always; the others, which take minutes of processor time, at length."""

OTHERS = [one for one in listed() if one not in FIRST]

FAULTS = ("reads", "mixes", "pools")
REFUSED = "pools, exact"
"""The last fault, of a run that requires deterministic algorithms."""

#: The result of an architecture, or of one of FAULTS.
Results = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Runs on the pretend GPU: FIRST with two faults in one process, and the rest in one, when they are asked for.

    Of the rest, those whose tests have been selected.
    """
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    options = ["-shared", "-fPIC", "-Wall", "-Werror", f"-Wl,-soname,{library.name}", "-o", str(library)]
    subprocess.run([str(COMPILER), *options, str(HERE / "no_driver.c")], check=True)
    reads, mixes, pools = ({"model": "resnet18", "fault": fault, "name": fault} for fault in FAULTS)
    refused = {"model": "resnet18", "fault": "pools", "deterministic": "exact", "name": REFUSED}
    first, others = (
        [{"task": task, "model": model, "name": f"{task} {model}"} for task, model in networks]
        for networks in (FIRST, OTHERS)
    )
    selected = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    others = [one for one in others if one["name"] in selected]
    first, others = [*first, reads, mixes], [*others, pools, refused]
    rehearsed_first = {one["name"] for one in first}

    @cache
    def results(is_first: bool) -> dict[str, dict[str, Any]]:
        networks = first if is_first else others
        folder = tmp_path_factory.mktemp("rehearsal")
        command = [sys.executable, "-m", "tests.engine.rehearsal.rehearse", str(folder), json.dumps(networks)]
        settings = {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **settings})
        assert done.returncode == 0, done.stderr[-4000:]
        lines = map(json.loads, done.stdout.splitlines())
        return {one["name"]: line for one, line in zip(networks, lines, strict=True)}

    return lambda name: results(name in rehearsed_first)[name]


@pytest.mark.parametrize(
    "one",
    [*FIRST, *(pytest.param(one, marks=pytest.mark.long) for one in OTHERS)],
    ids=" ".join,
)
def test_a_network_trains_on_a_gpu(one: Network, result: Results) -> None:
    found = result(" ".join(one))
    assert found.get("error") is None, "\n".join(found["error"]["traceback"])
    assert found["ended"] == ["paused", "completed"]
    assert found["resume_check"] == "exact"
    assert found["metrics"].keys() <= TASKS[one[0]].metrics.keys()
    assert found["refused"] == {}
    assert found["deterministic"] == [True, True]
    most = next((most for name, most in WAITS.items() if one[1].startswith(name)), 0)
    assert found["waits"] <= most, "\n".join(f"{times} {line}" for line, times in found["lines"].items())


def test_faults_are_found_with_their_lines(result: Results) -> None:
    reads, mixes = result("reads"), result("mixes")
    assert reads["lines"] == {f"{line_of('loss.item()')}  assert loss.item() >= 0": 1}
    assert mixes["error"]["kind"] == "MixedDevices"
    assert line_of("torch.zeros(1)") in mixes["error"]["message"]


@pytest.mark.long
def test_operations_without_a_deterministic_algorithm_are_found_before_the_first_step(result: Results) -> None:
    pools = result("pools")
    # The run trains without deterministic algorithms, and says so.
    assert list(pools["refused"]) == ["adaptive_avg_pool2d_backward_cuda"]
    assert (pools.get("error"), pools["ended"], pools["deterministic"]) == (
        None,
        ["paused", "completed"],
        [False, False],
    )


@pytest.mark.long
def test_a_run_that_requires_deterministic_algorithms_is_refused_by_name(result: Results) -> None:
    error = result(REFUSED)["error"]
    assert error["error_class"] == "not_deterministic"
    assert "adaptive_avg_pool2d_backward_cuda has no deterministic algorithm" in error["message"]


def line_of(text: str) -> str:
    """file:line of the only line of rehearse.py that has this text."""
    file = HERE / "rehearse.py"
    numbers = [number for number, line in enumerate(file.read_text().splitlines(), start=1) if text in line]
    assert len(numbers) == 1
    return f"{file.relative_to(ROOT)}:{numbers[0]}"
