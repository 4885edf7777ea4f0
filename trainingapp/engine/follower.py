"""A rank above 0: it does what rank 0 tells, at the same step, and writes nothing but its log."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch

from trainingapp.contract.commands import Meeting
from trainingapp.contract.config import with_epochs
from trainingapp.contract.run_directory import RunSpec, read_config_file, read_run_spec
from trainingapp.engine.compilation import compile_network
from trainingapp.engine.control import LineReader
from trainingapp.engine.data.batches import TensorBatch
from trainingapp.engine.determinism import Algorithms
from trainingapp.engine.device import Precision, choose_precision, device_for, prepare_backend
from trainingapp.engine.freezing import is_frozen, set_training
from trainingapp.engine.memory import limit_to_share
from trainingapp.engine.norms import tensor_norms
from trainingapp.engine.rank_processes import SETUP, Reports, Setup
from trainingapp.engine.ranks import PATIENCE_S, Order, PeerLost, Ranks, Word, communicating
from trainingapp.engine.seeding import seed_everything
from trainingapp.engine.shared_step import share_steps, share_with
from trainingapp.engine.small_convolutions import guard_small_convolutions
from trainingapp.engine.state import TrainingState, new_state
from trainingapp.engine.step import epoch_batches, training_step
from trainingapp.engine.system_monitor import report_use
from trainingapp.engine.tasks.registry import make_task, read_dataset
from trainingapp.engine.validation import evaluate_share

#: Seconds in which the store of rank 0 must be reached, which listens already.
CONNECT_S = 60.0

logger = logging.getLogger("trainingapp.engine")


def follow(run_dir: Path, rank: int, lines: LineReader, reports: Reports, *, unwanted_fds: list[int]) -> None:
    """Be rank `rank` of the attempt until rank 0 ends it. `lines` says where rank 0 is.

    Loader processes close `unwanted_fds`. Raises PeerLost where another rank has ended, and what training raises.
    """
    line = lines.read_line()
    if line is None:  # rank 0 has ended before it began to train
        return
    meeting = Meeting(**json.loads(line))
    store = reports.store = _store(meeting)
    with communicating():
        setup = Setup(**json.loads(store.get(SETUP)))
    run = read_run_spec(run_dir, read_config_file(run_dir))
    if run.attempt != setup.attempt:  # a later attempt has begun meanwhile
        raise PeerLost(f"This is attempt {setup.attempt}, the run is at attempt {run.attempt}.")
    spec = _spec_of(run, rank, setup)
    state = _prepare(spec, setup, unwanted_fds)
    reports.ready()
    ranks = Ranks.join(rank, setup.world, store, state.device, meeting.interface)
    # What the run begins with, whether that is new, pretrained or from a checkpoint.
    state.restore(torch.load(io.BytesIO(ranks.receive()), map_location="cpu", weights_only=True))
    share_with(state, ranks)
    compile_network(state)
    share_steps(state)
    report_use(store, rank, state.device, is_elsewhere=run.is_elsewhere(rank))
    _obey(ranks, state, state.precision)


def _spec_of(spec: RunSpec, rank: int, setup: Setup) -> RunSpec:
    uuid = spec.device_uuids[rank] if spec.device_uuids else ""
    decided = {"pretrained": setup.pretrained} if setup.pretrained else {}
    config = spec.config.model_copy(update={"batch_size": setup.batch_size, **decided})
    return replace(spec, config=config, device=spec.devices[rank], device_uuid=uuid)


def _prepare(spec: RunSpec, setup: Setup, unwanted_fds: list[int]) -> TrainingState:
    """The run at its very beginning, without weights: they come from rank 0."""
    device, config = device_for(spec), spec.config
    precision, _warning = choose_precision(
        device, amp=config.amp, deterministic=config.deterministic, trained_in=setup.precision
    )
    limit_to_share(device, config)
    prepare_backend(deterministic=setup.deterministic, cpu_threads=setup.cpu_threads, tf32=precision.tf32)
    task = make_task(spec, read_dataset(spec), device, unwanted_fds=unwanted_fds)
    task.computation = setup.computation
    seed_everything(config.seed)
    model = task.build_model(pretrained=False)
    guard_small_convolutions(model, precision)
    return new_state(spec, task, model, precision, Algorithms(setup.deterministic), cpu_threads=setup.cpu_threads)


def _store(meeting: Meeting) -> "torch.distributed.Store":
    """The store of rank 0. Raises PeerLost where it cannot be reached."""
    from torch.distributed import TCPStore

    limit = timedelta(seconds=CONNECT_S)
    with communicating():
        store = TCPStore(meeting.address, meeting.port, None, False, limit, wait_for_workers=False)
    store.set_timeout(timedelta(seconds=PATIENCE_S))
    return store


def _obey(ranks: Ranks, state: TrainingState, precision: Precision) -> None:
    batches: Iterator[TensorBatch] = iter(())
    while True:
        order = ranks.listen()
        match order.word:
            case Word.EPOCH:
                state.epoch, state.step_in_epoch, state.validated = order.epoch, order.step, False
                batches = epoch_batches(state)
            case Word.STEP:
                training_step(state, batches, precision)
            case Word.VALIDATE:
                evaluate_share(state, precision, partial(_carry_out, ranks, state))
                set_training(state.model, state.head_prefixes, frozen=is_frozen(state.config, state.epoch))
            case Word.COMPARE | Word.EPOCHS:
                _carry_out(ranks, state, order)
            case _:
                return


def _carry_out(ranks: Ranks, state: TrainingState, order: Order) -> None:
    """What rank 0 tells between two steps, or between two batches of a validation. Raises ValueError for other words:
    a rank that took one for the end would leave the others waiting."""
    match order.word:
        case Word.COMPARE:
            ranks.compare(tensor_norms(state.model), state.step)
        case Word.EPOCHS:
            state.change_epochs(with_epochs(state.config, order.epoch))
        case _:
            raise ValueError(f"{order} within a validation")
