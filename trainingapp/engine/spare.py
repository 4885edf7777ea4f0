"""A rehearsal for a spare trainer: what is slow the first time is done before a run waits for it."""

import contextlib
import importlib
import itertools
import tempfile
from pathlib import Path

import torch
from PIL import Image

from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import Sample, Split, read_index, write_index
from trainingapp.contract.run_directory import RunSpec
from trainingapp.contract.tasks.registry import DEFAULT_TASK
from trainingapp.engine.data.transforms import PRESETS, image_augmentation
from trainingapp.engine.device import available_threads, prepare_backend
from trainingapp.engine.environment import environment
from trainingapp.engine.idle_memory import release_memory
from trainingapp.engine.number_format import precision_for
from trainingapp.engine.optim import make_optimizer
from trainingapp.engine.stored_tensors import FlatCopy
from trainingapp.engine.tasks.registry import make_task


def rehearse() -> None:
    """Train the default configuration for two steps on the CPU, on blank images in a temporary folder.

    This imports what libraries load lazily, and compiles the CPU kernels. A GPU is not used: an idle process must not
    hold its memory. A run sets its own seeds and switches, so the rehearsal does not influence its results.
    """
    prepare_backend(deterministic=True, cpu_threads=available_threads())
    Image.init()
    with tempfile.TemporaryDirectory(prefix="cvstudio-") as folder:
        config = parse_config({"device": "cpu"})
        spec = RunSpec(Path(folder), config, Path(folder), Path(folder), 0)
        for name in ("a.png", "a.jpg"):
            Image.new("RGB", (32, 32)).save(Path(folder) / name)
        files, labels = itertools.cycle(["a.png", "a.jpg"]), itertools.cycle([0, 1])
        counts: list[tuple[Split, int]] = [("train", config.batch_size * 2), ("val", 1)]
        samples = [Sample(next(files), next(labels), split, 32, 32) for split, count in counts for _ in range(count)]
        write_index(Path(folder), name="", tasks=[DEFAULT_TASK], classes=["a", "b"], fingerprint="", samples=samples)
        _train_and_save(spec)
    with contextlib.suppress(ImportError):
        importlib.import_module("torch.utils.tensorboard")
    environment()  # git takes a moment, and the result is cached
    for preset in PRESETS.values():
        image_augmentation(preset, 32)(torch.zeros(3, 32, 32, dtype=torch.uint8))
    release_memory()


def _train_and_save(spec: RunSpec) -> None:
    dataset, device = read_index(spec.dataset_dir), torch.device("cpu")
    task = make_task(spec, dataset, device)
    model, meter = task.build_model(pretrained=False), task.training_meter()
    optimizer = make_optimizer(model, spec.config)
    precision, _warning = precision_for(spec, dataset, device)
    for batch in task.train_batches(1, skip=0):
        with precision.autocast():
            loss = task.loss(model, batch, meter)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
    results = task.validation_meter()
    for batch in task.val_batches():
        with torch.inference_mode(), precision.autocast():
            task.evaluate(model, batch, results)
    task.evaluation(results)
    FlatCopy().take({"optimizer": optimizer.state_dict(), "meter": meter.state_dict()})
