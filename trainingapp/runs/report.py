"""A run's report: one HTML file without scripts that needs no server, or Markdown with its drawings in a zip."""

import base64
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from django.contrib.staticfiles import finders
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from PIL import Image

from trainingapp.datasets.previews import coloured_mask, mask_overlay, thumbnail
from trainingapp.models import TrainingRun
from trainingapp.presentation.labels import metric_label, score_label, status_label, task_label
from trainingapp.presentation.numbers import NO_VALUE, metric, percent, setting_value
from trainingapp.presentation.times import duration
from trainingapp.runs.charts import charts_of
from trainingapp.runs.downloads import ZIP_TYPE, file_stem
from trainingapp.runs.evaluation_curves import HISTORY, Plot, plot
from trainingapp.runs.evaluation_images import IMAGE_PIXELS, USUAL_CONFIDENCE, Card, Chip, Gallery, legend
from trainingapp.runs.evaluations import (
    CurveLines,
    Evaluated,
    EvaluationError,
    EvaluationFile,
    MatrixRow,
    MetricRow,
    Series,
    TableRow,
    class_rows,
    history,
    matrix_rows,
    metric_rows,
    predicted_mask,
    read,
)
from trainingapp.runs.forms import ConfigRow, config_of
from trainingapp.runs.markdown import table_lines
from trainingapp.runs.series import series_of

ReportFormat = Literal["html", "markdown"]

CURVE_POINTS = 400
"""Points of a training curve in the report."""

MOST_CLASSES = 500
"""Rows of the table by class; a page of 1,000 classes has the rest."""

WORST_IMAGES = 12

SMALL_MATRIX = 15
"""Classes up to which the confusion matrix is in the report."""


class EmbeddedGallery(Gallery):
    """Cards whose images are data URIs, so that nothing is fetched. What cannot be read is left out."""

    def _image_url(self, path: str) -> str:
        try:
            return _data_uri(thumbnail(self._run.dataset, path, IMAGE_PIXELS).read_bytes())
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return ""

    def _true_mask_url(self, path: str) -> str:
        try:
            return _data_uri(mask_overlay(self._run.dataset, path, IMAGE_PIXELS).read_bytes())
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return ""

    def _predicted_mask_url(self, index: int) -> str:
        try:
            image = coloured_mask(predicted_mask(self._run, self._content, index), IMAGE_PIXELS)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return ""
        file = io.BytesIO()
        image.save(file, "WEBP", lossless=True, method=2)
        return _data_uri(file.getvalue())

    def _page_url(self, index: int) -> str:
        return ""


def _data_uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


@dataclass(frozen=True)
class ImageGroup:
    """Images of the report under one heading."""

    title: str
    cards: list[Card]


class Report:
    """The content of a report. `with_images`: whether the reader may see the images of the dataset."""

    def __init__(self, run: TrainingRun, *, with_images: bool) -> None:
        self.run = run
        self.with_images = with_images
        self.made_at = timezone.now()

    @cached_property
    def history(self) -> list[Evaluated]:
        return history(self.run)

    @cached_property
    def validation(self) -> Evaluated | None:
        """That of the best epoch, or the newest."""
        best = next((one for one in self.history if one.epoch == self.run.best_epoch), None)
        return best or (self.history[-1] if self.history else None)

    @cached_property
    def _read(self) -> tuple[EvaluationFile | None, str]:
        if self.validation is None:
            return None, ""
        try:
            return read(self.run, self.validation.epoch), ""
        except EvaluationError as error:
            return None, str(error)

    @property
    def content(self) -> EvaluationFile | None:
        return self._read[0]

    @property
    def problem(self) -> str:
        """Why tables and images of the validation are missing."""
        return self._read[1]

    def facts(self) -> list[tuple[str, str]]:
        """What stands at the head of the report: labels and texts."""
        run = self.run
        found = [
            (_("Task"), f"{task_label(run.task)}, {run.config.get('model', NO_VALUE)}"),
            (_("Dataset"), f"{run.dataset.name} ({run.dataset.fingerprint[:12]})"),
            (_("Status"), str(status_label(run.shown_status))),
            (_("Epoch"), f"{run.epoch} / {run.total_epochs}"),
        ]
        if run.best_metric is not None:
            best = metric(run.best_metric, run.best_metric_name)
            found.append((_("Best"), f"{metric_label(run.best_metric_name)} {best}"))
        if run.elapsed_s:
            found.append((_("Training time"), duration(run.elapsed_s)))
        if run.device:
            found.append((_("Device"), run.device))
        moments = [(_("Created"), run.created_at), (_("Report"), self.made_at)]
        return found + [(name, date_format(timezone.localtime(moment), "DATETIME_FORMAT")) for name, moment in moments]

    def metrics(self) -> list[MetricRow]:
        """The metrics of the validation; `best` is the value of the newest one."""
        if self.validation is None:
            return []
        return metric_rows(self.validation, self.history[-1])

    @property
    def newest(self) -> Evaluated | None:
        return self.history[-1] if self.history else None

    @cached_property
    def training_plots(self) -> list[Plot]:
        """The charts of the run's page."""
        charts = charts_of(self.run.task, self.run.config)
        names = {f"{one['split']}/{one['metric']}" for chart in charts for one in chart["series"]}
        stored = series_of([self.run.pk], names, CURVE_POINTS)[self.run.pk]
        plots = []
        for chart in charts:
            lines = []
            for one in chart["series"]:
                if line := stored.get(f"{one['split']}/{one['metric']}"):
                    points = [(float(step or 0), value) for step, value in zip(line.step, line.value, strict=True)]
                    lines.append(Series(label=str(one["label"]), points=points))
            if lines:
                title = str(chart["title"])
                curve = CurveLines(name=f"{HISTORY}{chart['name']}", title=title, x=_("Step"), y=title, series=lines)
                plots.append(plot(curve))
        return plots

    @cached_property
    def evaluation_plots(self) -> list[Plot]:
        return [plot(curve) for curve in self.content.curves] if self.content else []

    def rows(self) -> list[TableRow]:
        return class_rows(self.content)[:MOST_CLASSES] if self.content else []

    def left_out(self) -> int:
        """Classes that the table does not show."""
        return max(0, len(self.content.per_class) - MOST_CLASSES) if self.content else 0

    def matrix(self) -> list[MatrixRow] | None:
        """The confusion matrix of few classes."""
        confusion = self.content.confusion if self.content else None
        return matrix_rows(confusion) if confusion and len(confusion.names) <= SMALL_MATRIX else None

    @cached_property
    def images(self) -> list[ImageGroup]:
        if self.content is None or not self.with_images:
            return []
        gallery = EmbeddedGallery(self.run, self.content)
        fixed = gallery.fixed()
        shown = {card.index for card in fixed}
        worst = [card for card in gallery.notable(best=False, label=None) if card.index not in shown][:WORST_IMAGES]
        groups = [ImageGroup(_("Images of every validation"), fixed), ImageGroup(_("Worst images"), worst)]
        return [group for group in groups if group.cards]

    def legend(self) -> list[Chip]:
        """The colours of the classes, where images show them by colour."""
        return legend(self.content) if self.content and self.images else []

    @property
    def confidence(self) -> float:
        """Boxes below it are not drawn."""
        best = self.content.best_confidence if self.content else None
        return USUAL_CONFIDENCE if best is None else best

    def config(self) -> list[ConfigRow]:
        return config_of(self.run)

    def style(self) -> SafeString:
        """The style sheet of the file, which has no server to fetch it from."""
        path = finders.find("css/report.css")
        assert isinstance(path, str)
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - finders give a text
            return mark_safe(file.read())  # noqa: S308 - a file of the studio


def report_response(run: TrainingRun, format_: ReportFormat, *, with_images: bool) -> HttpResponse:
    """The report in the active language as a file to be saved."""
    report = Report(run, with_images=with_images)
    stem = f"{file_stem(run.name, 'run')}-{run.pk}-report"
    if format_ == "html":
        response = HttpResponse(report_html(report), content_type="text/html; charset=utf-8")
        name = f"{stem}.html"
    else:
        response = HttpResponse(report_zip(report, stem), content_type=ZIP_TYPE)
        name = f"{stem}.zip"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def report_html(report: Report) -> str:
    return render_to_string("reports/report.html", {"report": report, "run": report.run})


def report_zip(report: Report, stem: str) -> bytes:
    """report.md with its drawings as SVG in a folder named `stem`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _files(report):
            archive.writestr(f"{stem}/{name}", text)
    return file.getvalue()


def _files(report: Report) -> Iterator[tuple[str, str]]:
    plots = [*report.training_plots, *report.evaluation_plots]
    for number, one in enumerate(plots, start=1):
        yield (
            f"curves/{number}.svg",
            render_to_string("runs/_evaluation_plot.html", {"plot": one, "alone": True}).strip(),
        )
    for group in report.images:
        for card in group.cards:
            yield _image_name(card), render_to_string("reports/_image.html", {"card": card, "report": report}).strip()
    yield "report.md", markdown(report, plots)


def _image_name(card: Card) -> str:
    return f"images/{card.index}.svg"


def markdown(report: Report, plots: list[Plot]) -> str:
    """The text of the report, with links to its drawings."""
    run, validation, content = report.run, report.validation, report.content
    lines = [
        f"# {_escaped_line(run.name)}",
        "",
        *(f"- {name}: {_escaped_line(fact)}" for name, fact in report.facts()),
        "",
    ]
    if validation is not None:
        heads = [_("Metric"), _("Epoch %(epoch)s") % {"epoch": validation.epoch}]
        rows = [[row.label, metric(row.value, row.name)] for row in report.metrics()]
        lines += ["## " + _("Metrics"), "", *table_lines(heads, rows), ""]
    if plots:
        lines += ["## " + _("Curves"), ""]
        for number, one in enumerate(plots, start=1):
            lines += [f"![{_escaped_line(one.title)}](curves/{number}.svg)", ""]
    if content and content.per_class:
        heads = [_("Class"), *(score_label(column.label) for column in content.columns)]
        rows = [
            [row.name, *(percent(value) if column.is_share else metric(value) for column, value in row.values)]
            for row in report.rows()
        ]
        lines += ["## " + _("Per class"), "", *table_lines(heads, rows), ""]
    if report.problem:
        lines += [report.problem, ""]
    for group in report.images:
        lines += [f"## {group.title}", ""]
        for card in group.cards:
            lines += [f"![{_escaped_line(card.path)}]({_image_name(card)})", ""]
    rows = [[row.section, row.label, _setting(row)] for row in report.config()]
    lines += ["## " + _("Configuration"), "", *table_lines([_("Section"), _("Setting"), _("Value")], rows)]
    return "\n".join(lines) + "\n"


def _setting(row: ConfigRow) -> str:
    text = f"{setting_value(row.value, row.name)} {row.unit}".strip()
    return f"**{text}**" if row.is_told else text


def _escaped_line(text: str) -> str:
    return text.replace("\n", " ").replace("[", "\\[").replace("]", "\\]").replace("<", "&lt;")
