"""What the form of a new run leads to, while it is filled in: the schedule of the learning rate, and when it starts."""

from dataclasses import replace

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from trainingapp.accounts.users import signed_in
from trainingapp.contract.config import RunConfig
from trainingapp.contract.loading import Machine as LoadingMachine
from trainingapp.contract.loading import loading_of
from trainingapp.contract.schedule_preview import lr_curve
from trainingapp.models import Dataset, Host, TrainingRun
from trainingapp.presentation.messages import rendered
from trainingapp.runs.evaluation_curves import HISTORY, Plot, plot
from trainingapp.runs.evaluations import CurveLines, Series
from trainingapp.runs.forms import draft_form
from trainingapp.runs.verb_registry import RUN_VERBS
from trainingapp.scheduling.forecast import Span, duration, hardware_of, read_board, read_history, wait_if_queued
from trainingapp.scheduling.placement import ClusterState, DeviceSlot, Machine, Request
from trainingapp.scheduling.scheduler import nowhere
from trainingapp.views.access import require
from trainingapp.weights.published import outlook_of


@require_POST
def run_outlook(request: HttpRequest) -> HttpResponse:
    """The learning rate of the run in the form, and when it would start; nothing is stored. The name may be missing."""
    require(request, RUN_VERBS["create"].permission)
    form = draft_form(request.POST, request.user, name=request.POST.get("name") or _("New run"))
    if not form.is_valid():  # the fields themselves are checked when the form is submitted
        return render(request, "runs/_outlook.html", {"is_incomplete": True})
    config, dataset = form.config, form.cleaned_data["dataset"]
    steps = _steps_per_epoch(config, dataset)
    points = lr_curve(config, steps_per_epoch=steps)
    run = TrainingRun(
        pk=0,
        name=form.cleaned_data["name"],
        owner=signed_in(request.user),
        dataset=dataset,
        task=config.task,
        config=config.model_dump(mode="json"),
        total_epochs=config.epochs,
    )
    board = read_board()
    wanted = Request.of(run.config)
    suited = board.cluster.suited(wanted)
    length, basis = Span(float("inf"), float("inf")), 0
    if suited:
        length, basis = duration(run, dataset, read_history(), hardware_of(suited[0][1], wanted.count))
    context = {
        "plot": _schedule_plot(points),
        "highest": max(rate for _epoch, rate in points),
        "last": points[-1][1],
        "ahead": len(board.queue),
        "wait": wait_if_queued(run, board) if suited else None,
        "length": length if basis else None,
        "basis": basis,
        "pretrained": outlook_of(config.task, run.config),
        "devices": _devices(config, wanted, board.cluster),
        "loading": _loading(config, *suited[0]) if suited and config.num_workers == "auto" else "",
    }
    return render(request, "runs/_outlook.html", context)


def _devices(config: RunConfig, wanted: Request, cluster: ClusterState) -> str:
    """What several devices mean for the run: where they are, and how the batches of a step are shared."""
    if config.device_count < 2:
        return ""
    if not cluster.suited(wanted):
        return nowhere(cluster, wanted)
    steps, batch = config.accumulation_steps, config.batch_size
    values = {"steps": steps, "batch": batch, "images": steps * batch, "devices": config.device_count}
    if steps < config.device_count:
        text = _(
            "An optimizer step has too few batches (%(steps)d) for %(devices)d devices. Raise the gradient "
            "accumulation and reduce the batch size by the same factor: a step then sees as many images as before."
        )
    else:
        text = _("%(devices)d devices share the %(steps)d batches of each optimizer step, %(images)d images in all.")
    lines = [text % values]
    if wanted.hosts > 1 and not cluster.groups(wanted):
        lines.append(
            _(
                "No single host has them: gradients pass through the network between the hosts at each step, which "
                "limits the speed."
            )
        )
    return " ".join(lines)


def _loading(config: RunConfig, machine: Machine, device: DeviceSlot) -> str:
    """How the images of the run would be loaded there, and why."""
    host = Host.objects.filter(name=machine.name).first()
    if host is None:
        return ""
    gpus = sum(1 for each in machine.devices if each.kind == "gpu" and each.is_present)
    found = loading_of(
        config.num_workers,
        LoadingMachine(host.cpu_cores, gpus, host.memory_bytes, host.memory_free_bytes),
        on_gpu=device.kind == "gpu",
        batch_bytes=0,  # how much shared memory is free is known there only
    )
    return rendered(found.reason)


def _steps_per_epoch(config: RunConfig, dataset: Dataset) -> int:
    """Optimizer steps; of an automatic batch size only that there is at least one."""
    batches = -(-dataset.trained_images(config.model_dump(include={"folds"})) // config.batch_size)
    return max(1, -(-batches // config.accumulation_steps))


def _schedule_plot(points: list[tuple[float, float]]) -> Plot:
    title = _("Learning rate by epoch")
    series = [Series(label=title, points=points)]
    found = plot(CurveLines(name=f"{HISTORY}schedule", title=title, x=_("Epoch"), y=title, series=series))
    return replace(found, y="")  # the title has it
