"""Runs in the output of commands: JSON objects, rows and lines."""

from collections.abc import Collection
from typing import TypedDict

from trainingapp.contract.number_text import number_text
from trainingapp.models import RunEvent, TrainingRun
from trainingapp.presentation.event_text import event_text, failure_text
from trainingapp.presentation.messages import rendered_list

FIELDS = (  # noqa: SIM905
    "id name task status priority attempt recoveries epoch total_epochs step total_steps phase saving device host "
    "elapsed_s eta_s metrics best_metric_name best_metric best_epoch error_class forked_from_id "
    "forked_checkpoint soft_limit_h hard_limit_h max_recoveries"
).split()
TIMES = ("archived_at", "heartbeat_at", "created_at", "queued_at", "started_at", "finished_at")
CHECKPOINT_FIELDS = ("file", "epoch", "step", "reason", "size_bytes", "sha256", "is_best", "is_last", "metrics")
HEADING = ("ID", "NAME", "STATUS", "EPOCH", "DONE", "BEST", "DATASET", "OWNER")


def record(run: TrainingRun) -> dict[str, object]:
    """A run in the output of `--json`."""
    return {
        **{name: getattr(run, name) for name in FIELDS},
        "wanted": run.requested_action,
        "error_message": failure_text(run),
        "shown_status": run.shown_status,
        "progress": round(run.progress, 4),
        "dataset": run.dataset.name,
        "owner": run.owner.get_username(),
        **{name: value.isoformat() if (value := getattr(run, name)) else None for name in TIMES},
    }


def full_record(run: TrainingRun) -> dict[str, object]:
    """A run in the output of `show`, with its configuration and checkpoints."""
    checkpoints = [{name: getattr(saved, name) for name in CHECKPOINT_FIELDS} for saved in run.checkpoints.all()]
    return {
        **record(run),
        "config": run.config,
        "corrections": rendered_list(run.corrections),
        "tags": [tag.name for tag in run.tags.all()],
        "note": run.note,
        "folder": str(run.folder),
        "error_lines": run.error_lines,
        "resume_proof": run.resume_check,
        "checkpoints": checkpoints,
    }


def summary(run: TrainingRun) -> tuple[str, ...]:
    """A row under HEADING."""
    epoch = f"{run.epoch}/{run.total_epochs}"
    who = (run.dataset.name, run.owner.get_username())
    return (str(run.pk), run.name, run.shown_status, epoch, f"{run.progress:.0%}", best_result(run), *who)


def best_result(run: TrainingRun) -> str:
    """The best metric with its name; empty before the first validation."""
    if run.best_metric is None:
        return ""
    return f"{run.best_metric_name} {number_text(run.best_metric, digits=3, ascii_only=True)}"


def log_line(row: RunEvent) -> str:
    text = event_text(row) or row.data.get("file", "")
    return f"{row.time:%Y-%m-%d %H:%M:%S} {row.level:<7} {row.type}: {text}"


class MetricRecord(TypedDict):
    """The metrics of one step."""

    epoch: int | None
    step: int | None
    split: str | None
    values: dict[str, float | None]


def metric_record(row: RunEvent, names: Collection[str]) -> MetricRecord:
    """A point of the charts, with the metrics of these names, or all."""
    values: dict[str, float | None] = row.data.get("values", {})
    chosen = {name: values[name] for name in names or values if name in values}
    return {"epoch": row.epoch, "step": row.step, "split": row.data.get("split"), "values": chosen}
