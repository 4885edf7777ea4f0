"""CSV files with one line per box.

filename,width,height,class,xmin,ymin,xmax,ymax      TensorFlow, Roboflow
image,x,y,w,h,label                                  left, top, width, height
image_id,width,height,bbox                           bbox as "[left, top, width, height]" (Kaggle)
ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf      normalized to 0..1 (Open Images)
path,x1,y1,x2,y2,class without a header              RetinaNet

A line without coordinates is an image without objects. Coordinates are normalized if all are between 0 and 1. Classes
of Open Images, such as /m/01g317, get their names from class-descriptions-boxable.csv if the source has it.
"""

import re
from dataclasses import dataclass, field, replace

from trainingapp.contract.messages import dataset_annotations as messages
from trainingapp.contract.messages import dataset_formats as format_messages
from trainingapp.contract.messages.dataset_reading import SPLIT_FROM_COLUMN
from trainingapp.datasets.report import Report
from trainingapp.datasets.sources.files import Files, class_name, is_image_name, kind_of_cell
from trainingapp.datasets.sources.formats.collector import whole
from trainingapp.datasets.sources.formats.gathered import Corners, Gathered, in_order, number
from trainingapp.datasets.sources.formats.tables import cells, delimiter_of
from trainingapp.datasets.sources.layout import Kind, Layout, Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

NAME = "csv_boxes"
_FILE = (
    "filename",
    "file",
    "image",
    "imagepath",
    "path",
    "imagename",
    "imgname",
    "filepath",
    "imageid",
    "img",
    "frame",
)
_CLASS = ("class", "label", "classname", "labelname", "category", "name", "target", "classid", "labelid", "categoryid")
_SPLIT = ("split", "set", "subset", "partition", "istest", "isvalid", "isval", "isvalidation", "istrain")
_SIDES = (
    ("xmin", "x1", "left", "xtl", "bboxxmin", "boxleft"),
    ("ymin", "y1", "top", "ytl", "bboxymin", "boxtop"),
    ("xmax", "x2", "right", "xbr", "bboxxmax", "boxright"),
    ("ymax", "y2", "bottom", "ybr", "bboxymax", "boxbottom"),
)
_STARTS = (("x", "bboxx", "boxx", *_SIDES[0]), ("y", "bboxy", "boxy", *_SIDES[1]))
_CENTRES = (("xcenter", "centerx", "cx", "xcentre"), ("ycenter", "centery", "cy", "ycentre"))
_SIZES = (
    ("w", "bboxwidth", "boxwidth", "bw", "bboxw", "width"),
    ("h", "bboxheight", "boxheight", "bh", "bboxh", "height"),
)
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class _Columns:
    """Column indices; -1 for a missing column.

    `box` has four columns, or one that contains all four numbers. `form` is the meaning of the numbers.
    """

    file: int
    label: int
    box: tuple[int, ...]
    form: str
    split: int = -1
    width: int = -1
    height: int = -1
    has_header: bool = True
    split_name: str = ""
    crowd: int = -1


@dataclass
class _Image:
    file: SourceFile
    where: Position
    size: tuple[int, int]
    kind: Kind | None
    shapes: list[Shape] = field(default_factory=list)
    unusable: int = 0


def recognise(files: Files) -> bool:
    """Whether a CSV file has an image column and box columns."""
    return bool(_tables(files))


def _tables(files: Files) -> list[tuple[SourceFile, _Columns]]:
    found = ((file, _columns(files.peek(file))) for file in files.ending(".csv", ".tsv"))
    return [(file, columns) for file, columns in found if columns]


def _columns(content: bytes) -> _Columns | None:
    first = content.decode("utf-8-sig", errors="replace").partition("\n")[0].rstrip("\r")
    parts = [part.strip().strip('"') for part in first.split(delimiter_of(first))]
    if len(parts) == 6 and is_image_name(parts[0]) and (all(map(_NUMBER.fullmatch, parts[1:5])) or not any(parts[1:])):
        return _Columns(0, 5, (1, 2, 3, 4), "corners", has_header=False)
    names = [re.sub(r"[\s_\-.]+", "", part).lower() for part in parts]

    def column(known: tuple[str, ...]) -> int:
        return next((names.index(name) for name in known if name in names), -1)

    file, label = column(_FILE), column(_CLASS)
    width, height = column(("width", "imagewidth", "imgwidth")), column(("height", "imageheight", "imgheight"))
    form, box = "", tuple(map(column, _SIDES))
    if min(box) >= 0:
        form = "corners"
    elif "bbox" in names:
        form, box = "list", (names.index("bbox"),)
    else:
        for form_, starts in (("centre", _CENTRES), ("start", _STARTS)):
            box = tuple(map(column, (*starts, *_SIZES)))
            if min(box) >= 0:
                form = form_
                break
    if file < 0 or not form or len({file, label, *box}) != 2 + len(box):
        return None
    width, height = (-1 if side in box else side for side in (width, height))
    split = column(_SPLIT)
    split_name = parts[split] if split >= 0 else ""
    crowd = column(("isgroupof", "iscrowd"))
    return _Columns(file, label, box, form, split, width, height, split_name=split_name, crowd=crowd)


def read(files: Files, report: Report) -> Layout:
    """Read every table. Classes are ordered by name."""
    tables = _tables(files)
    gathered = Gathered(NAME, files, report, [file for file, _columns in tables])
    images: dict[str, _Image] = {}
    origin = None
    for file, columns in tables:
        found: dict[str, _Image] = {}
        with report.collecting():
            for row, (where, parts) in enumerate(cells(files.read_text(file), file.path)):
                if row or not columns.has_header:
                    _read_line([part.strip() for part in parts], columns, where, gathered, found)
        corners = [value for image in found.values() for shape in image.shapes for value in shape.box or ()]
        if corners and max(corners) <= 1.0001 and min(corners) >= -0.0001:
            # All boxes lie in the unit square: the corners are normalized, since no box in pixels is that small.
            for image in found.values():
                image.shapes = [replace(shape, relative=True) for shape in image.shapes]
        if columns.split_name and any(image.kind for image in found.values()):
            origin = SPLIT_FROM_COLUMN(column=columns.split_name, path=file.path)
        for path, image in found.items():
            if path in images:
                elsewhere = images[path].where.param()
                message = messages.IMAGE_TWICE(where=image.where.param(), path=path, elsewhere=elsewhere)
                gathered.fault(image.where, message, "duplicate_name")
            else:
                images[path] = image
    for image in images.values():
        gathered.add(image.file, image.where, image.shapes, size=image.size, unusable=image.unusable, kind=image.kind)
    return gathered.layout(split_origin=origin, renamed=_names(files, report))


def _names(files: Files, report: Report) -> dict[str, str]:
    """The class names of Open Images by code."""
    found: dict[str, str] = {}
    for file in files.ending(".csv"):
        if file.path.rpartition("/")[2].lower().startswith("class-descriptions"):
            with report.collecting():
                lines = [parts[:2] for _where, parts in cells(files.read_text(file), file.path, ",") if len(parts) > 1]
                found |= {code.strip(): class_name(name) for code, name in lines if class_name(name)}
    return found


def _read_line(
    parts: list[str], columns: _Columns, where: Position, gathered: Gathered, found: dict[str, _Image]
) -> None:
    if len(parts) <= max(columns.file, columns.label, *columns.box):
        gathered.fault(where, messages.TOO_FEW_COLUMNS(where=where.param(), count=len(parts)))
        return
    image = gathered.find(parts[columns.file], where)
    split = parts[columns.split] if 0 <= columns.split < len(parts) else ""
    kind = kind_of_cell(columns.split_name, split)
    if split and kind is None:
        gathered.fault(where, messages.NOT_A_SPLIT(where=where.param(), text=repr(split[:60])))
        return
    if image is None:
        return
    width, height = (
        whole(number(parts[column]) if 0 <= column < len(parts) else None) for column in (columns.width, columns.height)
    )
    size = (width, height) if width and height else (0, 0)
    entry = found.setdefault(image.path, _Image(image, where, size, kind))
    if entry.kind != kind:
        message = messages.IMAGE_TWICE(where=where.param(), path=image.path, elsewhere=entry.where.param())
        gathered.fault(where, message, "duplicate_name")
        return
    texts = [parts[column] for column in columns.box]
    if not any(texts):
        return
    corners = _corners(texts, columns.form)
    if corners is None:
        entry.unusable += 1
        gathered.fault(where, format_messages.BOX_OF_LINE(where=where.param(), text=", ".join(texts)[:60]))
    else:
        shape = gathered.shape(parts[columns.label] if columns.label >= 0 else "", where, corners)
        is_crowd = 0 <= columns.crowd < len(parts) and parts[columns.crowd] == "1"
        entry.shapes.append(replace(shape, crowd=is_crowd))


def _corners(texts: list[str], form: str) -> Corners | None:
    if form == "list":
        texts = re.split(r"[\s,]+", texts[0].strip("[]() "))
    found = [value for value in map(number, texts) if value is not None]
    if len(found) != 4 or len(texts) != 4:
        return None
    first, second, third, fourth = found
    if form == "corners":
        return in_order(first, second, third, fourth)
    if form == "centre":
        return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2
    return first, second, first + third, second + fourth
