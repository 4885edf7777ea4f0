"""How many processes load images, how far ahead, and how much memory decoded images may take."""

import pytest

from trainingapp.contract.loading import Loading, Machine, loading_of

GB = 10**9
ON_GPU = Machine(cores=16, gpus=1, memory_bytes=64 * GB, free_bytes=48 * GB, shared_bytes=32 * GB)


def _loading(machine: Machine, num_workers: int | str = "auto", *, on_gpu: bool = True, batch: int = 1_000) -> Loading:
    return loading_of(num_workers, machine, on_gpu=on_gpu, batch_bytes=batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cores", "gpus", "processes"),
    [(16, 1, 12), (16, 2, 7), (8, 1, 7), (96, 8, 11), (2, 1, 1), (2, 2, 0), (4, 8, 0), (4, 0, 3)],
)
def test_a_gpu_gets_its_share_of_the_cores_but_one(cores: int, gpus: int, processes: int) -> None:
    found = _loading(Machine(cores, gpus, 64 * GB, 48 * GB))
    assert (found.processes, found.prefetch, found.is_limited) == (processes, 4, False)
    assert str(found.reason).startswith(f"{processes} loader process" if processes else "No loader processes")


def test_on_a_cpu_the_trainer_loads() -> None:
    found = _loading(ON_GPU, on_gpu=False)
    assert found.processes == 0
    assert "on a CPU" in str(found.reason)


@pytest.mark.parametrize("number", [0, 1, 20])
@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_number_stays_as_it_was_configured(number: int, on_gpu: bool) -> None:
    found = _loading(ON_GPU, number, on_gpu=on_gpu)
    assert (found.processes, found.is_limited) == (number, False)
    assert "as configured" in str(found.reason)


@pytest.mark.parametrize(
    ("shared", "processes", "prefetch"),
    [(32 * GB, 12, 4), (3 * GB, 12, 4), (2 * GB, 12, 3), (3 * GB // 2, 12, 2), (1 * GB, 8, 2), (64_000_000, 0, 2)],
)
@pytest.mark.parametrize("num_workers", ["auto", 12])
def test_batches_fit_into_the_shared_memory(num_workers: str, shared: int, processes: int, prefetch: int) -> None:
    batch = 30_000_000
    machine = Machine(16, 1, 64 * GB, 48 * GB, shared)
    found = _loading(machine, num_workers, batch=batch)
    assert (found.processes, found.prefetch) == (processes, prefetch)
    assert found.processes * (found.prefetch + 1) * batch <= shared
    assert found.is_limited == (processes < 12)
    if found.is_limited:
        assert "/dev/shm" in str(found.reason)
        assert f"{shared // 1_000_000} MB" in str(found.reason).replace(",", "")


def test_images_may_take_a_quarter_of_the_memory_divided_by_the_gpus() -> None:
    assert _loading(ON_GPU).cache_bytes == 16 * GB
    assert _loading(Machine(16, 4, 64 * GB, 48 * GB)).cache_bytes == 4 * GB
    assert _loading(Machine(16, 0, 64 * GB, 8 * GB), on_gpu=False).cache_bytes == 4 * GB  # half of what is free
