"""What a run has recorded: metrics, log, script, checkpoints; and saving one of them to the library."""

from dataclasses import replace
from typing import Annotated

import numpy as np
from django.http import HttpResponse, StreamingHttpResponse
from django.utils.translation import gettext as _
from ninja import Path, Query, Router, Status
from pydantic import JsonValue

from trainingapp.accounts.permissions import Verb, can
from trainingapp.api.access import require, run_for
from trainingapp.api.callers import ApiRequest
from trainingapp.api.paging import Id, Text
from trainingapp.api.problems import Problem, not_found, wrong_field
from trainingapp.api.schemas import (
    CheckpointChange,
    CheckpointInfo,
    CheckpointList,
    LogFilters,
    LogList,
    MetricsFilters,
    MetricsList,
    TrainingDeleteResponse,
    TrainingSaveRequest,
    TrainingSaveResponse,
)
from trainingapp.api.thinning import thinned
from trainingapp.contract.storage.exporting import ExportForm
from trainingapp.contract.system_series import SYSTEM
from trainingapp.models import Checkpoint, TrainingRun
from trainingapp.runs import verbs as run_verbs
from trainingapp.runs.downloads import (
    checkpoint_response,
    metrics_csv_response,
    metrics_parquet_response,
    metrics_tensorboard_response,
    script_response,
    tensorboard_response,
)
from trainingapp.runs.log_search import log_lines, search_log
from trainingapp.runs.report import ReportFormat, report_response
from trainingapp.runs.series import Series, read_series
from trainingapp.weights import verbs as weights_verbs

router = Router(tags=["training"])

#: Names that always refer to the best and the last checkpoint.
NICKNAMES: dict[str, dict[str, bool]] = {"best": {"is_best": True}, "last": {"is_last": True}}


@router.get("/{pk}/metrics", response=MetricsList, summary="Metrics of a run")
def list_metrics(request: ApiRequest, pk: Id, filters: Query[MetricsFilters]) -> dict[str, object]:
    """The metrics, oldest first. A step that was repeated after a crash is listed once.

    What the trainer measures of its machine is listed only where `names` has it, such as system/gpu_utilization.
    """
    run = run_for(request, pk)
    wanted = {name.strip() for name in (filters.names or "").split(",") if name.strip()}
    names = {name for text in wanted for name in (text, text.partition("/")[2])} or None
    stored = read_series(run, after=filters.since, names=names, is_for_chart=True)
    if any(name.startswith(f"{SYSTEM}/") for name in wanted):
        stored += read_series(run, after=filters.since, split=SYSTEM, names=names, is_for_chart=True)
    found = [_wanted(series, wanted) for series in stored]
    kept = thinned(found, filters.max_points)
    seq = max([filters.since, run.event_seq, *(int(series.frame.seq[-1]) for series in found if series.total)])
    return {"items": kept, "seq": seq, "thinned": len(kept) < sum(series.total for series in found)}


def _wanted(series: Series, wanted: set[str]) -> Series:
    """The series with the requested metrics: loss, or val/loss for one split; by default all."""
    if not wanted:
        return series
    frame, split = series.frame, series.split

    def is_wanted(name: str) -> bool:
        return bool({name, f"{split}/{name}"} & wanted)

    columns = {name: column for name, column in frame.columns.items() if is_wanted(name)}
    details: dict[int, dict[str, JsonValue]] = {}
    for seq, others in frame.details.items():
        values = others.get("values")
        if isinstance(values, dict) and (named := {name: value for name, value in values.items() if is_wanted(name)}):
            details[seq] = {"values": named}
    has_some = np.isin(frame.seq, list(details))
    for column in columns.values():
        has_some |= ~np.isnan(column)
    chosen = replace(frame, columns=columns, details=details).take(has_some)
    left_out = series.total - len(frame)  # by a preview
    return replace(series, frame=chosen, total=len(chosen) + (left_out if len(chosen) else 0))


@router.get("/{pk}/metrics.csv", response={200: None}, summary="Download the metrics of a run as CSV")
def run_metrics_csv(request: ApiRequest, pk: Id) -> StreamingHttpResponse:
    """All points without thinning, oldest first, with a column for each metric. It is written while it is sent."""
    return metrics_csv_response(run_for(request, pk, Verb.DOWNLOAD))


@router.get("/{pk}/metrics.parquet", response={200: None}, summary="Download the metrics of a run as Parquet")
def run_metrics_parquet(request: ApiRequest, pk: Id) -> StreamingHttpResponse:
    """The same table as Parquet: float64, null for a metric that a point lacks. 409 where pyarrow is not installed."""
    return metrics_parquet_response(run_for(request, pk, Verb.DOWNLOAD))


@router.get("/{pk}/metrics.tfevents", response={200: None}, summary="Download the metrics of a run for TensorBoard")
def run_metrics_tensorboard(request: ApiRequest, pk: Id) -> StreamingHttpResponse:
    """The same points as one event file of TensorBoard, with a scalar `NAME/SPLIT` (float32) for each metric."""
    return metrics_tensorboard_response(run_for(request, pk, Verb.DOWNLOAD))


@router.get("/{pk}/logs", response=LogList, summary="Log of a run")
def list_logs(request: ApiRequest, pk: Id, filters: Query[LogFilters]) -> dict[str, object]:
    """The lines of the log, oldest first. `next` is the cursor for those that follow, null at the end of the log.

    With `q`, one answer searches a part of a long log and may hold fewer lines than `limit`, or none, before the end.
    """
    run = run_for(request, pk)
    if filters.q:
        part = search_log(run, filters.q, level=filters.level, after=filters.after, limit=filters.limit)
        return {"items": part.lines, "next": part.next}
    found = log_lines(run.events.filter(seq__gt=filters.after), filters.level, filters.limit)
    return {"items": found, "next": found[-1].seq if len(found) == filters.limit else None}


@router.get("/{pk}/script", response={200: None}, summary="Download a run as a script")
def run_script(request: ApiRequest, pk: Id) -> HttpResponse:
    """train.py: it trains the same, with the package cvstudio and without a studio."""
    return script_response(run_for(request, pk, Verb.DOWNLOAD))


@router.get("/{pk}/tensorboard", response={200: None}, summary="Download a run's files for TensorBoard")
def run_tensorboard(request: ApiRequest, pk: Id) -> StreamingHttpResponse:
    """A zip of its event files, in a folder that has the run's name. 404 before its first values."""
    response = tensorboard_response(run_for(request, pk, Verb.DOWNLOAD))
    if response is None:
        raise not_found(_("The run has no files for TensorBoard yet."))
    return response


@router.get("/{pk}/report", response={200: None}, summary="Download a run's report")
def run_report(
    request: ApiRequest,
    pk: Id,
    form: Annotated[
        ReportFormat, Query(alias="format", description="One HTML file, or Markdown with its drawings in a zip.")
    ] = "html",
) -> HttpResponse:
    """Configuration, curves, metrics, values by class, and images if you may see the dataset. It needs no server."""
    run = run_for(request, pk, Verb.DOWNLOAD)
    return report_response(run, form, with_images=can(request.caller.user, Verb.SEE, run.dataset))


@router.get("/{pk}/checkpoints", response=CheckpointList, summary="Checkpoints of a run")
def list_checkpoints(request: ApiRequest, pk: Id) -> dict[str, object]:
    """Its checkpoints, newest first."""
    return {"items": run_for(request, pk).checkpoints.all()}


@router.get("/{pk}/checkpoints/{file}", response=CheckpointInfo, summary="Show a checkpoint")
def show_checkpoint(request: ApiRequest, pk: Id, file: Path[Text]) -> Checkpoint:
    """One checkpoint, by the name of its file; best and last are names too."""
    return _checkpoint(run_for(request, pk), file)


@router.get("/{pk}/checkpoints/{file}/download", summary="Download a checkpoint", response={200: None})
def download_checkpoint(
    request: ApiRequest,
    pk: Id,
    file: Path[Text],
    form: Annotated[ExportForm, Query(alias="format", description="All of it for torch.load, or the weights.")] = "pt",
) -> StreamingHttpResponse:
    """The checkpoint as a file: torch.load(..., weights_only=True) reads pt, safetensors holds the weights alone."""
    response = checkpoint_response(_checkpoint(run_for(request, pk, Verb.DOWNLOAD), file), form)
    if response is None:
        raise not_found(_("The file is missing or corrupted."))
    return response


@router.put("/{pk}/checkpoints/{file}", response=CheckpointInfo, summary="Keep a checkpoint")
def change_checkpoint(request: ApiRequest, pk: Id, file: Path[Text], payload: CheckpointChange) -> Checkpoint:
    """Pin a checkpoint, so that no retention policy deletes it, or unpin it."""
    run = run_for(request, pk, Verb.CONTROL)
    return run_verbs.pin_checkpoint(_checkpoint(run, file), is_pinned=payload.is_pinned)


@router.delete("/{pk}/checkpoints/{file}", response=TrainingDeleteResponse, summary="Delete a checkpoint")
def remove_checkpoint(request: ApiRequest, pk: Id, file: Path[Text]) -> dict[str, object]:
    """Remove a checkpoint and its file. The best, the last and those that are kept by hand stay."""
    run = run_for(request, pk)
    require(request, Verb.DELETE, run)
    by = request.caller.user.get_username()
    removal = run_verbs.delete_checkpoints(run, [_checkpoint(run, file).file], by=by)
    return {"bytes": removal.freed_bytes, "files": len(removal.removed)}


@router.post("/{pk}/save", response={201: TrainingSaveResponse}, summary="Save to the weights library")
def save_run(request: ApiRequest, pk: Id, payload: TrainingSaveRequest) -> Status[dict[str, object]]:
    """Put the best checkpoint, or a named one, into the library as a new version under a name."""
    run = run_for(request, pk, Verb.CONTROL)
    if payload.checkpoint is not None and not run.checkpoints.filter(file=payload.checkpoint).exists():
        raise wrong_field("#/checkpoint", _("The run has no such checkpoint."))
    if not run.checkpoints.exists():
        raise Problem(409, _("The run has no checkpoint yet."), kind="not-possible")
    weights = weights_verbs.save_weights(
        run,
        file=payload.checkpoint,
        name=payload.name,
        note=payload.note,
        licence=payload.licence,
        by=request.caller.user,
    )
    about = {"run": run.pk, "checkpoint": weights.checkpoint_file, "state": weights.state}
    return Status(201, {"id": weights.pk, "name": weights.name, "version": weights.version, **about})


def _checkpoint(run: TrainingRun, file: str) -> Checkpoint:
    by: dict[str, bool] | dict[str, str] = NICKNAMES.get(file) or {"file": file}
    found = run.checkpoints.select_related("run").filter(**by).first()
    if found is None:
        raise not_found(_("The run has no such checkpoint."))
    return found
