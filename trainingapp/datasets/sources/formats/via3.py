"""Projects of VGG Image Annotator 3: files, views of files, and metadata with the objects of each view.

`xy` contains the type and the numbers of a shape; `av` maps attribute ids to values, which for choices are option keys:
https://gitlab.com/vgg/via/-/blob/master/via-3.x.y/src/js/_via_data.js
"""

from collections import defaultdict

from trainingapp.datasets.sources.files import Files, class_name
from trainingapp.datasets.sources.formats.gathered import Gathered, ellipse, ellipse_box, number, polygon
from trainingapp.datasets.sources.json_stream import members
from trainingapp.datasets.sources.layout import Shape
from trainingapp.datasets.sources.position import Position
from trainingapp.datasets.sources.source import SourceFile

_KNOWN = ("rectangle", "circle", "ellipse", "polygon", "extreme rectangle", "extreme circle")
_TYPES = {1: "point", 5: "line", 6: "polyline", **dict(zip((2, 3, 4, 7, 8, 9), _KNOWN, strict=True))}
_CLASS_NAMES = {"class", "label", "name", "type", "category", "object"}
_IMAGE = 2
"""The type of a file that is an image; the others are videos and sounds."""
_Part = dict[str, object]


def read_version_3(files: Files, file: SourceFile, gathered: Gathered) -> None:
    """Add the images of a project. Raises DatasetError if it is not valid JSON."""
    parts: dict[str, _Part] = defaultdict(dict)
    regions: dict[str, list[tuple[Position, _Part]]] = defaultdict(list)
    for key, line, value in members(files.text_pieces(file), file.path, {"file", "metadata"}):
        if key == "metadata" and isinstance(value, dict):
            regions[str(value.get("vid"))].append((Position(file.path, line), value))
        elif key == "file" and isinstance(value, dict):
            parts["file"][str(value.get("fid"))] = value
        elif isinstance(value, dict):
            parts[key] = value
    for view_id, view in parts["view"].items():
        ids = view.get("fid_list") if isinstance(view, dict) else None
        about = parts["file"].get(str(ids[0])) if isinstance(ids, list) and ids else None
        where = regions[view_id][0][0] if regions[view_id] else Position(file.path)
        if not isinstance(about, dict) or not isinstance(ids, list) or len(ids) != 1:
            gathered.field_invalid(where, "fid_list")
        elif about.get("type") != _IMAGE:
            gathered.shape_not_read(where, "video" if about.get("type") == 4 else about.get("type"), ["image"])
        elif image := gathered.find(about.get("fname") or about.get("src"), where):
            _add(image, where, regions[view_id], parts["attribute"], gathered)


def _add(
    image: SourceFile, where: Position, regions: list[tuple[Position, _Part]], attributes: _Part, gathered: Gathered
) -> None:
    shapes: list[Shape] = []
    labels: list[str] = []
    unusable = 0
    for at, region in regions:
        name = _class(region.get("av"), attributes)
        if name is None:
            gathered.field_invalid(at, "av")
            unusable += 1
        elif region.get("xy") in ([], None):  # applies to the whole image
            labels += [name] if name else []
        elif shape := _shape(region.get("xy"), name, at, gathered):
            shapes.append(shape)
        else:
            unusable += 1
    gathered.add(image, where, shapes, labels=labels, unusable=unusable)


def _class(values: object, attributes: _Part) -> str | None:
    """The value of the class attribute; "" if there are no values, None if the class attribute is ambiguous."""
    if not isinstance(values, dict):
        return ""
    found: dict[str, str] = {}
    for key, value in values.items():
        about = attributes.get(key)
        options = about.get("options", {}) if isinstance(about, dict) else None
        if not isinstance(about, dict) or not isinstance(options, dict) or (options and str(value) not in options):
            return None
        if name := class_name(options.get(str(value), value)):
            found[str(about.get("aname", key)).strip().lower()] = name
    named = next((name for key, name in found.items() if key in _CLASS_NAMES), None)
    return named or (None if len(found) > 1 else next(iter(found.values()), ""))


def _shape(value: object, name: str, where: Position, gathered: Gathered) -> Shape | None:
    """The object; None, with a fault, if it cannot be used."""
    found = [number(one) for one in value] if isinstance(value, list) else []
    values = [one for one in found if one is not None]
    kind = _TYPES.get(int(values[0]) if values else 0, "unknown")
    if kind not in _KNOWN:
        gathered.shape_not_read(where, kind, _KNOWN)
        return None
    values = values[1:]
    points = list(map(list, zip(values[::2], values[1::2], strict=False)))
    if len(values) == len(found) - 1 and kind == "polygon" and (outline := polygon(points)):
        return gathered.shape(name, where, None, (outline,))
    if len(values) == len(found) - 1 and kind == "extreme rectangle" and len(points) >= 3:
        xs, ys = values[::2], values[1::2]
        return gathered.shape(name, where, (min(xs), min(ys), max(xs), max(ys)))
    if len(values) != {"rectangle": 4, "circle": 3, "ellipse": 4}.get(kind, 0) or min(values[2:]) <= 0:
        gathered.field_invalid(where, "xy")
        return None
    x, y, first, last = (*values, values[2])[:4]
    if kind == "rectangle":
        return gathered.shape(name, where, (x, y, x + first, y + last))
    return gathered.shape(name, where, ellipse_box(x, y, first, last), (ellipse(x, y, first, last),))
