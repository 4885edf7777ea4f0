"""The parts of a run on several ranks, computed in one process."""

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from tests.engine.test_detection import boxes_dir  # noqa: F401 - a fixture
from tests.engine.test_segmentation import masked_dir  # noqa: F401 - a fixture
from tests.helpers.images import make_run_dir
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.evaluation import evaluation_path, write_evaluation
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.alternating import alternating
from trainingapp.engine.checkpoint import Found
from trainingapp.engine.loop import rank_count
from trainingapp.engine.ranks import Ranks
from trainingapp.engine.running_statistics import (
    Rounding,
    RunningStatistics,
    _sum_rounded_once,
    rounding_of,
    rounding_within,
)
from trainingapp.engine.tasks.registry import make_task

CPU = torch.device("cpu")


def test_lists_of_several_ranks_alternate() -> None:
    parts = [list(range(rank, 11, 3)) for rank in range(3)]
    assert alternating(parts) == list(range(11))
    assert alternating([[0], [], []]) == [0]


def test_a_sum_is_rounded_once() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(3, 3000, generator=generator)
    sums = _sum_rounded_once(numbers[0].double() * numbers[1].double(), numbers[2].double())
    for one, other, addend, found in zip(*numbers.tolist(), sums, strict=True):
        exact = Fraction(one) * Fraction(other) + Fraction(addend)
        neighbours = [found, torch.nextafter(found, torch.tensor(9e9)), torch.nextafter(found, torch.tensor(-9e9))]
        errors = [abs(Fraction(float(neighbour)) - exact) for neighbour in neighbours]
        assert errors[0] == min(errors)


@pytest.mark.parametrize("momentum", [0.1, 0.03, None])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_statistics_of_single_batches_become_those_of_all(
    momentum: float | None, memory_format: torch.memory_format
) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(0)
        norms = [nn.BatchNorm2d(8, momentum=momentum), nn.BatchNorm2d(16, momentum=momentum)]
        net = nn.Sequential(nn.Conv2d(3, 8, 3), norms[0], nn.Conv2d(8, 16, 3), norms[1])
        return net.to(memory_format=memory_format)  # type: ignore[call-overload,no-any-return]

    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(4, 3, 12, 12, generator=generator).to(memory_format=memory_format) for _ in range(5)]
    straight, shared = network(), network()
    rounding = rounding_of(CPU, None, memory_format)
    assert rounding.is_known
    for batch in batches:
        straight(batch)
    taken: dict[int, torch.Tensor] = {}
    with RunningStatistics(shared, rounding) as statistics:
        for number in (0, 2, 4, 1, 3):  # as two ranks take them
            shared(batches[number])
            taken[number] = statistics.taken()
        statistics.replay(torch.stack([taken[number] for number in range(5)]))
    for (name, one), other in zip(straight.named_buffers(), shared.buffers(), strict=True):
        assert torch.equal(one, other), name
    assert [norm.momentum for norm in shared if isinstance(norm, nn.BatchNorm2d)] == [momentum, momentum]


@pytest.mark.long
def test_the_formulas_of_a_compiled_network_are_found() -> None:
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(32, momentum=0.1), nn.BatchNorm2d(64, momentum=0.03)]
    network = nn.Sequential(nn.Conv2d(3, 32, 3), norms[0], nn.ReLU(), nn.Conv2d(32, 64, 3), norms[1])
    network.compile(dynamic=False)
    batches = torch.randn(4, 4, 3, 12, 12)
    rounding = rounding_within(network, lambda: network(batches[0]))
    assert rounding.is_known
    begin = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for batch in batches:
        network(batch)
    straight = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(begin)
    with RunningStatistics(network, rounding) as statistics:
        rows = []
        for batch in batches:
            network(batch)
            rows.append(statistics.taken())
        statistics.replay(torch.stack(rows))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, straight[name]), name
    torch._dynamo.reset()


def test_formulas_that_do_not_fit_are_unknown() -> None:
    norm = nn.BatchNorm1d(3)
    batch = torch.randn(4, 3)

    def compute() -> None:
        norm(batch)
        norm.running_var += 0.1

    rounding = rounding_within(norm, compute)
    assert not rounding.is_known
    assert Rounding.from_data(rounding.as_data()) == rounding


def test_a_norm_that_a_batch_does_not_reach_keeps_its_statistics() -> None:
    norms = nn.ModuleList([nn.BatchNorm1d(3), nn.BatchNorm1d(3)])
    expected = [nn.BatchNorm1d(3), nn.BatchNorm1d(3)]
    generator = torch.Generator().manual_seed(2)
    batches, reached = torch.randn(3, 4, 3, generator=generator), ([0, 1], [0], [1])
    with RunningStatistics(norms, rounding_of(CPU, None, torch.contiguous_format)) as statistics:
        rows = []
        for batch, places in zip(batches, reached, strict=True):
            for place in places:
                norms[place](batch)
            rows.append(statistics.taken())
        statistics.replay(torch.stack(rows))
    for batch, places in zip(batches, reached, strict=True):
        for place in places:
            expected[place](batch)
    for one, other in zip(norms, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one.buffers(), other.buffers(), strict=True))


def test_only_as_many_ranks_as_a_step_has_batches(tmp_path: Path) -> None:
    def count(devices: int, batches: int, content: dict[str, Any] | None = None) -> tuple[int, str]:
        spec = SimpleNamespace(devices=("cpu",) * devices, config=SimpleNamespace(accumulation_steps=batches))
        found = None if content is None else cast(Found, SimpleNamespace(content=content))
        world, warning = rank_count(cast(Any, spec), found)
        return world, warning.code if warning else ""

    assert count(0, 4) == count(1, 4) == (1, "")
    assert count(2, 4) == count(2, 4, {"batch_seeds": True}) == (2, "")
    assert count(4, 3) == (3, "ranks_fewer")
    assert count(2, 1) == (1, "ranks_fewer")
    assert count(2, 4, {}) == (1, "ranks_one_kept")


TASKS = {
    "classification": ("dataset_dir", {}),
    "detection": (
        "boxes_dir",
        {"task": "detection", "model": "fcos_resnet18_fpn", "image_size": 64, "conf_thres": 0.0},
    ),
    "segmentation": (
        "masked_dir",
        {"task": "segmentation", "model": "lraspp_mobilenet_v3_large", "image_size": 64},
    ),
}


@pytest.mark.parametrize(
    "task_name", ["classification", *(pytest.param(name, marks=pytest.mark.long) for name in list(TASKS)[1:])]
)
def test_a_shared_validation_writes_the_files_of_one_rank(
    tmp_path: Path, request: pytest.FixtureRequest, task_name: str
) -> None:
    """For 1 to 4 ranks and 1 to 2 W + 1 images, one in a batch."""
    fixture, config = TASKS[task_name]
    run_dir = make_run_dir(tmp_path / "run", request.getfixturevalue(fixture), **{**config, "batch_size": 1})
    spec = read_run_spec(run_dir, read_config_file(run_dir))
    whole = read_index(spec.dataset_dir)
    val = whole.split("val")
    torch.manual_seed(0)
    model = make_task(spec, whole, CPU).build_model(pretrained=False).eval()
    for world in range(1, 5):
        for size in range(1, 2 * world + 2):
            chosen = list(itertools.islice(itertools.cycle(val[1:]), size))
            dataset = replace(whole, samples=[*whole.split("train"), *chosen])
            files = [
                _evaluated(tmp_path / f"{world} {size} {count}", spec, dataset, model, count) for count in (1, world)
            ]
            assert files[0] == files[1], (world, size)


def _evaluated(folder: Path, spec: Any, dataset: Any, model: nn.Module, world: int) -> list[bytes]:
    """The files of an evaluation that `world` ranks share."""
    meters = []
    for rank in range(world):
        task = make_task(spec, dataset, CPU)
        if world > 1:
            task.share(Ranks(rank, world))
        meter = task.validation_meter()
        with torch.inference_mode():
            for batch in task.val_batches():
                task.evaluate(model, batch, meter)
        meters.append(meter)
    if world > 1:
        meters[0].join([meter.shared() for meter in meters[1:]])
    (folder / "evaluations").mkdir(parents=True, exist_ok=True)
    found = task.evaluation(meters[0])
    write_evaluation(
        folder, found, task=spec.config.task, epoch=1, step=1, classes=dataset.classes, paths=task.val_paths()
    )
    paths = sorted(path for path in evaluation_path(folder, 1).parent.rglob("*") if path.is_file())
    return [path.read_bytes() for path in paths]
