"""Images that two validations judge differently, as a part of the comparison of runs."""

from dataclasses import dataclass

from django.core.paginator import Page, Paginator
from django.http import HttpRequest
from django.utils.translation import gettext as _

from trainingapp.runs.comparison import ComparedRun, Comparison
from trainingapp.runs.evaluation_images import USUAL_CONFIDENCE, Card, Gallery
from trainingapp.runs.evaluations import EvaluationError, EvaluationFile, read
from trainingapp.runs.regressions import Change, Outcome, Regression, outcomes, regression, truths
from trainingapp.runs.significance import (
    ImagesOfRun,
    NoInterval,
    epochs_with_images,
    images_of,
    images_of_epoch,
    require_same_images,
)

IMAGES_ON_A_PAGE = 24


@dataclass(frozen=True)
class Side:
    """One of the two validations: its run, its epoch (None before the first), and the epochs to choose from."""

    name: str
    label: str
    item: ComparedRun
    epoch: int | None
    epochs: list[int]


@dataclass(frozen=True)
class Judged:
    """What a run made of the image of a card."""

    item: ComparedRun
    epoch: int
    outcome: Outcome


@dataclass(frozen=True)
class DiffCard:
    """An image whose verdict changed. `before` and `after` hold the predictions that were stored."""

    before: Card
    after: Card
    truth: str
    judged: list[Judged]


@dataclass(frozen=True)
class ImagesPart:
    """What the part of the page shows; without `found`, `problem` is the reason."""

    sides: list[Side]
    change: Change
    label: int | None
    problem: str = ""
    found: Regression | None = None
    kind: str = ""
    cards: tuple[DiffCard, ...] = ()
    page: "Page[int] | None" = None
    left_out: tuple[str, ...] = ()
    before_confidence: float = USUAL_CONFIDENCE
    after_confidence: float = USUAL_CONFIDENCE


def images_part(request: HttpRequest, comparison: Comparison) -> ImagesPart:
    """The images of ?from=, ?from_epoch=, ?to= and ?to_epoch=: by default of the baseline and the next run."""
    query = request.GET
    other = next((item for item in comparison.shown if not item.is_base), comparison.base)
    sides = [
        _side(comparison, "from", _("Before"), query.get("from", ""), query.get("from_epoch", ""), comparison.base),
        _side(comparison, "to", _("After"), query.get("to", ""), query.get("to_epoch", ""), other),
    ]
    change: Change = "better" if query.get("change") == "better" else "worse"
    label = query.get("class", "")
    chosen = int(label) if label.isdecimal() and len(label) < 10 else None
    try:
        before, after = (_images(side) for side in sides)
        if sides[0].item is sides[1].item and sides[0].epoch == sides[1].epoch:
            raise NoInterval(_("Choose two runs, or two epochs of one run."))
        found = regression(before, after)
        contents = [read(images.run, images.epoch) for images in (before, after)]
    except (NoInterval, EvaluationError) as error:
        return ImagesPart(sides, change, chosen, problem=str(error))
    page = Paginator(found.order(change, chosen), IMAGES_ON_A_PAGE).get_page(query.get("page"))
    judged, left_out = _judged(comparison, sides, [before, after], list(page))
    return ImagesPart(
        sides,
        change,
        chosen,
        found=found,
        kind=contents[0].kind,
        cards=tuple(_cards(found, contents, list(page), judged)),
        page=page,
        left_out=tuple(left_out),
        before_confidence=_confidence(contents[0]),
        after_confidence=_confidence(contents[1]),
    )


def _side(comparison: Comparison, name: str, label: str, run: str, epoch: str, otherwise: ComparedRun) -> Side:
    item = next((one for one in comparison.items if str(one.run.pk) == run), otherwise)
    epochs = epochs_with_images(item.run)
    usual = item.validation.epoch if item.validation else None
    chosen = int(epoch) if epoch.isdecimal() and len(epoch) < 10 and int(epoch) in epochs else usual
    return Side(name, label, item, chosen, epochs)


def _images(side: Side) -> ImagesOfRun:
    """Raises NoInterval."""
    try:
        return images_of_epoch(side.item.run, side.epoch)
    except NoInterval as error:
        raise NoInterval(f"{side.item.run.name}: {error}") from None


def _judged(
    comparison: Comparison, sides: list[Side], both: list[ImagesOfRun], indices: list[int]
) -> tuple[dict[int, list[Judged]], list[str]]:
    """What the two sides and the other runs made of the images, and why others are left out."""
    found: dict[int, list[Judged]] = {index: [] for index in indices}
    problems = []
    rest = [item for item in comparison.shown if item.run.pk not in {side.item.run.pk for side in sides}]
    pairs: list[tuple[ComparedRun, ImagesOfRun | None]] = [
        (side.item, images) for side, images in zip(sides, both, strict=True)
    ]
    for item, given in [*pairs, *((item, None) for item in rest)]:
        try:
            images = given or _comparable(item, both[0])
        except NoInterval as error:
            problems.append(f"{item.run.name}: {error}")
            continue
        for index, outcome in outcomes(images, indices).items():
            found[index].append(Judged(item, images.epoch, outcome))
    return found, problems


def _comparable(item: ComparedRun, with_: ImagesOfRun) -> ImagesOfRun:
    """Raises NoInterval."""
    if item.validation is None:
        raise NoInterval(_("The run has no validation yet."))
    images = images_of(item.run, item.validation)
    require_same_images(with_, images)
    return images


def _cards(
    found: Regression, contents: list[EvaluationFile], indices: list[int], judged: dict[int, list[Judged]]
) -> list[DiffCard]:
    before, after = (
        Gallery(images.run, content) for images, content in zip((found.before, found.after), contents, strict=True)
    )
    names = truths(found.before, indices)
    return [DiffCard(before.at(index), after.at(index), names[index], judged[index]) for index in indices]


def _confidence(content: EvaluationFile) -> float:
    return USUAL_CONFIDENCE if content.best_confidence is None else content.best_confidence
