"""The evaluation pages of a run: metrics, curves, matrix, classes, and images through the epochs."""

import csv
import io
import json
from collections.abc import Iterable, Sequence

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from PIL import Image

from trainingapp.accounts.permissions import Verb, can
from trainingapp.datasets.previews import coloured_mask
from trainingapp.models import TrainingRun
from trainingapp.runs.class_history import CURVE, HEIGHT, WIDTH, ClassHistory, class_history
from trainingapp.runs.evaluation_curves import all_curves, plot
from trainingapp.runs.evaluation_images import IMAGE_PIXELS, USUAL_CONFIDENCE, Gallery, as_data, legend
from trainingapp.runs.evaluations import (
    CurveLines,
    Evaluated,
    EvaluationError,
    EvaluationFile,
    batch_path,
    class_rows,
    history,
    matrix_rows,
    metric_rows,
    of_epoch,
    predicted_mask,
    read,
)
from trainingapp.views.access import visible_run
from trainingapp.views.run_tabs import render_tab

#: What htmx may request separately: id of the element -> its partial.
PARTS = {
    "confusion": "runs/_evaluation_confusion.html",
    "classes": "runs/_evaluation_classes.html",
    "notable": "runs/_evaluation_notable.html",
}

#: Parts of the tab with an address of their own, and the parameter by which older addresses name them.
SHOWN = {
    "metrics": (gettext_lazy("Metrics"), ()),
    "classes": (gettext_lazy("Per class"), ("sort",)),
    "confusion": (gettext_lazy("Confusion matrix"), ("cells",)),
    "images": (gettext_lazy("Same images by epoch"), ()),
    "notable": (gettext_lazy("Best and worst images"), ("which", "class")),
}
#: Rows of the table by class on a page.
CLASSES_ON_A_PAGE = 20
#: The best or worst images on a page.
IMAGES_ON_A_PAGE = 12

_WHEN_EVALUATED = gettext_lazy("It is created by the validation at the end of the first epoch. Reload this page then.")


@require_safe
def evaluation_page(request: HttpRequest, pk: int) -> HttpResponse:
    """What the validation after ?epoch= (the newest) found out, against the best epoch: the part ?show= of it."""
    run = visible_run(request, pk)
    found = history(run)
    if not found:
        why = _("This run ended before its first validation.") if run.is_finished else _WHEN_EVALUATED
        return render_tab(request, run, "evaluation", {"why_empty": why})
    now = _chosen(found, request.GET.get("epoch", ""))
    best = next((one for one in found if one.epoch == run.best_epoch), None)
    context: dict[str, object] = {"run": run, "now": now, "best": best, "newest": found[-1], "epochs": found}
    place = found.index(now)
    shown = _shown(request)
    context |= {
        "shown": shown,
        "parts": [(name, label) for name, (label, _parameters) in SHOWN.items()],
        "epoch_text": str(now.epoch),
        "show_query": "" if shown == "metrics" else f"&show={shown}",
        "place": place,
        "earlier": found[place - 1].epoch if place else None,
        "later": found[place + 1].epoch if place + 1 < len(found) else None,
        "metrics": metric_rows(now, best),
    }
    context |= _content_context(request, run, now, found, shown)
    if can(request.user, Verb.CREATE):
        # The valid checkpoint with the weights that were validated; empty when none is kept.
        kept = run.checkpoints.filter(damage="")
        kept = kept.filter(step=now.step) if now.is_extra else kept.filter(epoch=now.epoch, reason="epoch")
        context["fork_file"] = kept.values_list("file", flat=True).first() or ""
    template = PARTS.get(request.headers.get("HX-Target", ""), "") if "content" in context else ""
    return render(request, template, context) if template else render_tab(request, run, "evaluation", context)


def _shown(request: HttpRequest) -> str:
    """The part of the tab that is shown: what htmx replaces, ?show=, or the one that a parameter belongs to."""
    for name in (request.headers.get("HX-Target", ""), request.GET.get("show", "")):
        if name in SHOWN:
            return name
    of_parameter = (name for name, (_label, names) in SHOWN.items() if any(each in request.GET for each in names))
    return next(of_parameter, "metrics")


def _chosen(found: list[Evaluated], epoch: str) -> Evaluated:
    """The validation of that epoch, the newest for none. Raises Http404."""
    if not epoch:
        return found[-1]
    chosen = next((one for one in found if str(one.epoch) == epoch), None)
    if chosen is None:
        raise Http404(_("This epoch has no evaluation."))
    return chosen


def _content_context(
    request: HttpRequest, run: TrainingRun, now: Evaluated, found: list[Evaluated], shown: str
) -> dict[str, object]:
    """What the part `shown` takes from the file of the epoch; without it the problem, and the curves that need none."""
    try:
        content = read(run, now.epoch)
    except EvaluationError as error:
        return {"problem": str(error), "plots": [plot(curve) for curve in all_curves(None, found)]}
    context: dict[str, object] = {
        "content": content,
        "confidence": USUAL_CONFIDENCE if content.best_confidence is None else content.best_confidence,
    }
    if shown == "metrics":
        context["plots"] = [plot(curve) for curve in all_curves(content, found)]
    elif shown == "classes":
        context |= _classes_context(request, run, content, found)
    elif shown == "confusion":
        context["cells"] = "share" if request.GET.get("cells") == "share" else "count"
        context["matrix"] = matrix_rows(content.confusion) if content.confusion else None
    elif shown == "images":
        context |= {"cards": Gallery(run, content).fixed(), "legend": legend(content)}
    else:
        context |= _notable_context(request, run, content)
    return context


def _classes_context(
    request: HttpRequest, run: TrainingRun, content: EvaluationFile, found: list[Evaluated]
) -> dict[str, object]:
    """A page of the table by class, and the score of each class through the epochs."""
    sort = request.GET.get("sort", "")
    history_of_classes = class_history(run, content, found)
    page = Paginator(class_rows(content, sort), CLASSES_ON_A_PAGE).get_page(request.GET.get("page"))
    context: dict[str, object] = {"sort": sort, "heads": _heads(content, sort), "page_of_rows": page}
    if history_of_classes is None or not history_of_classes.has_some:
        return context | {"rows": [(row, "") for row in page]}
    label = _(history_of_classes.column.label)
    return context | {
        "rows": [(row, history_of_classes.spark(row.name)) for row in page],
        "spark_box": f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        "spark_label": label,
        "class_plot": plot(_class_curve(history_of_classes, [row.name for row in page])),
    }


def _class_curve(history_of_classes: ClassHistory, names: Sequence[str] = ()) -> CurveLines:
    words = {"metric": _(history_of_classes.column.label)}
    return history_of_classes.curve(_("%(metric)s by epoch") % words, _("Epoch"), names)


def _notable_context(request: HttpRequest, run: TrainingRun, content: EvaluationFile) -> dict[str, object]:
    """The best or the worst images, of one class or of all."""
    label, which = request.GET.get("class", ""), request.GET.get("which", "")
    is_class = label.isdecimal() and len(label) < 10 and int(label) < len(content.classes)
    chosen = int(label) if is_class else None
    found = Gallery(run, content).notable(best=which == "best", label=chosen)
    page = Paginator(found, IMAGES_ON_A_PAGE).get_page(request.GET.get("page"))
    return {
        "page_of_images": page,
        "notable": page.object_list,
        "ends": [("worst", _("Worst")), ("best", _("Best"))],
        "which": "best" if which == "best" else "worst",
        "notable_title": _("Best images") if which == "best" else _("Worst images"),
        "label": chosen,
    }


def _heads(content: EvaluationFile, sort: str) -> list[dict[str, str]]:
    """The headers of the table by class: how it is sorted, and the ?sort= of a click.

    Numbers begin with the least, where one looks for what goes wrong; a second click turns them round.
    """
    columns = [("class", _("Class")), *((column.name, _(column.label)) for column in content.columns)]
    orders = {"": "ascending", "-": "descending"}
    return [
        {
            "label": label,
            "sorted": next((order for sign, order in orders.items() if sort == sign + name), ""),
            "next": f"-{name}" if sort == name else name,
        }
        for name, label in columns
    ]


def _evaluation(request: HttpRequest, pk: int, epoch: int) -> tuple[TrainingRun, EvaluationFile]:
    """A run and its evaluation of an epoch that counts. Raises Http404."""
    run = visible_run(request, pk)
    if of_epoch(run, epoch) is None:
        raise Http404
    try:
        return run, read(run, epoch)
    except EvaluationError as error:
        raise Http404(str(error)) from None


@require_safe
def evaluation_images(request: HttpRequest, pk: int, epoch: int) -> HttpResponse:
    """The fixed images as they were predicted after an epoch, as a part of the page."""
    run, content = _evaluation(request, pk, epoch)
    confidence = USUAL_CONFIDENCE if content.best_confidence is None else content.best_confidence
    context = {"run": run, "content": content, "cards": Gallery(run, content).fixed(), "confidence": confidence}
    return render(request, "runs/_evaluation_images.html", context)


@require_safe
def evaluation_data(request: HttpRequest, pk: int, epoch: int) -> JsonResponse:
    """The evaluation of an epoch, its fixed images with the truth and the prediction."""
    run, content = _evaluation(request, pk, epoch)
    kept = {
        "task",
        "epoch",
        "step",
        "classes",
        "values",
        "score",
        "per_class",
        "confusion",
        "best_confidence",
        "thresholds",
    }
    data = content.model_dump(include=kept)
    return JsonResponse(data | {"images": [as_data(card) for card in Gallery(run, content).fixed()]})


@require_safe
def evaluation_csv(request: HttpRequest, pk: int, epoch: int, what: str) -> HttpResponse:
    """A table of the evaluation: classes, confusion, images, or curve-NAME."""
    if what.startswith("curve-"):
        run, curve = _curve(request, pk, epoch, what.removeprefix("curve-"))
        points = [(series.label, x, y) for series in curve.series for x, y in series.points]
        return _csv(run, epoch, what, [("series", curve.x, curve.y), *points])
    run, content = _evaluation(request, pk, epoch)
    if what == "classes":
        names = ["class", *(column.name for column in content.columns)]
        return _csv(run, epoch, what, [names, *([row.get(name) for name in names] for row in content.per_class)])
    if what == "confusion" and content.confusion is not None:
        names = content.confusion.names
        rows = zip(names, content.confusion.counts, strict=True)
        return _csv(run, epoch, what, [("truth / prediction", *names), *((name, *counts) for name, counts in rows)])
    if what == "images":
        table: list[list[object]] = [["index", "path", content.score, "classes", "prediction"]]
        for one in content.images:
            made = content.predictions.get(one.index)
            classes = " ".join(content.class_name(label) for label in one.labels)
            annotations = json.dumps(made.model_dump(exclude_none=True), ensure_ascii=False) if made else ""
            table.append([one.index, one.path, one.score, classes, annotations])
        return _csv(run, epoch, what, table)
    raise Http404


@require_safe
def evaluation_curve(request: HttpRequest, pk: int, epoch: int, name: str) -> HttpResponse:
    """A curve as a separate image."""
    run, curve = _curve(request, pk, epoch, name)
    text = render_to_string("runs/_evaluation_plot.html", {"plot": plot(curve), "alone": True}).strip()
    response = HttpResponse(text, content_type="image/svg+xml")
    response.headers["Content-Disposition"] = f'attachment; filename="{_file_name(run, epoch, name)}.svg"'
    return response


def _curve(request: HttpRequest, pk: int, epoch: int, name: str) -> tuple[TrainingRun, CurveLines]:
    """A curve of the file, or of the metrics by epoch, for which no file is needed. Raises Http404."""
    run = visible_run(request, pk)
    found = history(run)
    _chosen(found, str(epoch))
    try:
        content = read(run, epoch)
    except EvaluationError:
        content = None
    curves = all_curves(content, found)
    if content and name == CURVE and (history_of_classes := class_history(run, content, found)) is not None:
        curves.append(_class_curve(history_of_classes))
    curve = next((one for one in curves if one.name == name), None)
    if curve is None:
        raise Http404
    return run, curve


def _csv(run: TrainingRun, epoch: int, what: str, rows: Iterable[Iterable[object]]) -> HttpResponse:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    response = HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{_file_name(run, epoch, what)}.csv"'
    return response


def _file_name(run: TrainingRun, epoch: int, what: str) -> str:
    return f"{slugify(run.name) or 'run'}-{run.pk}-epoch-{epoch}-{slugify(what)}"


@require_safe
@cache_control(private=True, max_age=86_400)
def evaluation_mask(request: HttpRequest, pk: int, epoch: int, index: int) -> HttpResponse:
    """A predicted mask in the colours of the classes, clear where no class is."""
    run, content = _evaluation(request, pk, epoch)
    try:
        image = coloured_mask(predicted_mask(run, content, index), IMAGE_PIXELS)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Http404 from None
    response = HttpResponse(content_type="image/webp")
    image.save(response, "WEBP", lossless=True, method=2)  # type: ignore[arg-type]
    return response


@require_safe
@cache_control(private=True, max_age=86_400)
def batch_image(request: HttpRequest, pk: int, file: str) -> HttpResponse:
    """The image of a training batch."""
    path = batch_path(visible_run(request, pk), file)
    if path is None:
        raise Http404
    return HttpResponse(path.read_bytes(), content_type="image/webp")
