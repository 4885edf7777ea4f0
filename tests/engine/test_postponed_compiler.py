"""The compiler of PyTorch is loaded by what compiles, and by nothing else. Each test is a process without it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.images import make_dataset, make_run_dir

POSTPONED = """
import json, sys
from trainingapp.engine.postponed_compiler import COMPILER, load_compiler, postpone_compiler
postpone_compiler()
import torch
def is_loaded():
    return "torch._dynamo.eval_frame" in sys.modules
"""
TRAIN = """
from torch import nn
import torchvision
from torchvision import tv_tensors
network = nn.Linear(3, 1)
optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
def step():
    optimizer.zero_grad(set_to_none=True)
    network(torch.ones(2, 3)).sum().backward()
    optimizer.step()
step()
"""


def run(code: str) -> list[object]:
    """What the code prints as JSON, in a new process in which the compiler is postponed."""
    done = subprocess.run(
        [sys.executable, "-c", POSTPONED + code], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_training_step_does_not_load_it_and_a_compiled_network_does() -> None:
    found = run(
        TRAIN
        + """
print(json.dumps(is_loaded()))
given = torch.ones(2, 3)
expected = network(given)
compiled = torch.compile(network, backend="eager")(given)
print(json.dumps([is_loaded(), bool((compiled == expected).all())]))
before = network.weight.clone()
step()
print(json.dumps(bool((network.weight != before).all())))
"""
    )
    assert found == [False, [True, True], True]


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("import torch._dynamo.config", "config"),
        pytest.param("from torch._dynamo import config", "config", marks=pytest.mark.long),
        pytest.param("from torch._dynamo.utils import counters", "utils", marks=pytest.mark.long),
        pytest.param("import torch._dynamo.device_interface", "device_interface", marks=pytest.mark.long),
        pytest.param("torch._dynamo.reset()", "config", marks=pytest.mark.long),
    ],
)
def test_each_way_to_use_it_gives_modules_that_exist_once(statement: str, name: str) -> None:
    found = run(
        f"""
import torch._dynamo
{statement}
import torch._dynamo as package
module = sys.modules[f"{{COMPILER}}.{name}"]
print(json.dumps([is_loaded(), getattr(package, "{name}") is module, package is sys.modules[COMPILER]]))
print(json.dumps([module.__spec__.name, module.__file__ is not None, load_compiler() is package]))
"""
    )
    assert found == [[True, True, True], [f"torch._dynamo.{name}", True, True]]


@pytest.mark.long
def test_a_function_of_torchvision_that_asks_for_it_gets_its_answer() -> None:
    found = run(
        """
from torchvision.ops import roi_align as _function
from torchvision.ops.roi_align import is_compile_supported
asked = is_compile_supported("cpu")
import torch._dynamo.utils
print(json.dumps(asked == torch._dynamo.utils.is_compile_supported("cpu")))
"""
    )
    assert found == [True]


@pytest.mark.long
def test_it_stays_where_it_is_loaded_already() -> None:
    found = run(
        """
real = load_compiler()
postpone_compiler()
print(json.dumps([sys.modules[COMPILER] is real, is_loaded()]))
"""
    )
    assert found == [[True, True]]


def test_a_run_does_not_load_it(tmp_path: Path) -> None:
    run_dir = make_run_dir(tmp_path / "run", make_dataset(tmp_path / "data"), epochs=1, batch_size=8, device="cpu")
    found = run(
        f"""
from trainingapp.engine.__main__ import main
code = main([{str(run_dir)!r}, "--no-control"])
print(json.dumps([code, is_loaded()]))
"""
    )
    assert found == [[0, False]]
