"""Images with more than 8 bits, many bands or other formats keep their content, or are refused with a reason."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.helpers import annotated
from tests.helpers.sources import Tree, codes, image, two_classes, write_tree
from tests.helpers.tiffs import tiff
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.deep_images import Conversion, Scale, to_8_bits
from trainingapp.contract.tiff_bands import read_bands, read_header
from trainingapp.datasets.images.depth import ValueRange, choose_scale
from trainingapp.datasets.importing.importer import run_import
from trainingapp.datasets.importing.inspection import run_inspection
from trainingapp.datasets.sources.image_kinds import HAS_AVIF
from trainingapp.engine.data.images import load_image
from trainingapp.models import Dataset

ImportTree = Callable[[Tree], Dataset]
Values = NDArray[Any]
H, W = 40, 40


def saved(values: Values, format_: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format_)
    return buffer.getvalue()


def ramp(low: float, high: float, dtype: str) -> Values:
    """(H, W) values from `low` to `high`, along the rows."""
    return np.linspace(low, high, H * W).reshape(H, W).astype(dtype)


def stored(dataset: Dataset, name: str) -> Values:
    """(H, W, 3) pixels of the stored file of this image, as the trainer reads it."""
    assert dataset.status == Dataset.Status.READY, dataset.report
    path = next(sample.path for sample in read_index(dataset.folder).samples if name in sample.path)
    return load_image(dataset.folder / path, W).permute(1, 2, 0).numpy()


# Scales


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ValueRange(0, 200, False), Scale(0, 255, 8)),
        (ValueRange(0, 1000, False), Scale(0, 1023, 10)),
        (ValueRange(5, 4000, False), Scale(0, 4095, 12)),
        (ValueRange(0, 16_000, False), Scale(0, 16_383, 14)),
        (ValueRange(0, 65_535, False), Scale(0, 65_535, 16)),
        (ValueRange(-5, 4000, False), Scale(-5, 4000)),
        (ValueRange(0, 70_000, False), Scale(0, 70_000)),
        (ValueRange(0, 1, True), Scale(0, 1)),
        (ValueRange(0, 0.9, True), Scale(0, 1)),
        (ValueRange(0, 0.1, True), Scale(0, 0.1)),
        (ValueRange(0, 255, True), Scale(0, 255)),
        (ValueRange(-1, 1, True), Scale(-1, 1)),
        (ValueRange(0, 8000, True), Scale(0, 8000)),
    ],
)
def test_the_intended_range_of_values_is_chosen(found: ValueRange, expected: Scale) -> None:
    assert choose_scale([found], "auto") == expected


def test_all_images_share_one_scale() -> None:
    assert choose_scale([ValueRange(0, 900, False), ValueRange(0, 3000, False)], "auto").bits == 12
    assert choose_scale([ValueRange(3, 900, False), ValueRange(1, 3000, False)], "true_range") == Scale(1, 3000)
    assert choose_scale([ValueRange(0, 900, False)], "type_range") == Scale(0, 65_535, 16)
    assert choose_scale([ValueRange(0, 9, True)], "type_range") == Scale(0, 1)


def test_non_finite_values_become_black_or_white() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 0.5, 2.0, -1.0]], np.float32)
    assert to_8_bits(values, Scale(0, 1)).tolist() == [[0, 0, 255, 128, 255, 0]]


# Imports


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("12.png", saved(ramp(0, 4095, "u2")), 255),
        ("16.png", saved(ramp(0, 65_535, "u2")), 255),
        ("float.tif", saved(ramp(0, 1, "f4"), "TIFF"), 255),
        ("float255.tif", saved(ramp(0, 255, "f4"), "TIFF"), 255),
        ("float_wide.tif", saved(ramp(-40, 900, "f4"), "TIFF"), 255),
        ("int32.tif", saved(ramp(-100_000, 100_000, "i4"), "TIFF"), 255),
        ("double.tif", tiff(ramp(0, 1, "f8")[..., None]), 255),
        ("half.tif", tiff(ramp(0, 1, "f2")[..., None]), 255),
        ("uint32.tif", tiff(ramp(0, 4_000_000_000, "u4")[..., None]), 255),
        ("rgb16.tif", tiff(np.stack([ramp(0, 4095, "u2")] * 3, -1), extra={262: 2}), 255),
    ],
)
def test_the_content_of_deep_images_is_kept(import_tree: ImportTree, name: str, content: bytes, expected: int) -> None:
    dataset = import_tree({**two_classes(), f"cat/{name}": content})
    pixels = stored(dataset, name)
    rows = pixels[..., 0].astype(int)
    assert (rows[0, 0], rows[-1, -1]) == (0, expected)
    assert np.abs(np.diff(rows.ravel())).max() <= 1
    assert "deep" in codes(dataset, "warning")
    index = read_index(dataset.folder)
    assert index.conversion == Conversion.from_data(dataset.reading["conversion"])
    assert (
        pixels == load_image(Path(dataset.source) / "cat" / name, W, index.conversion).permute(1, 2, 0).numpy()
    ).all()


def test_the_depth_can_be_chosen(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    tree = {**two_classes(), "cat/dim.png": saved(ramp(1000, 2000, "u2"))}
    source = write_tree(tmp_path / "source", tree)
    brightest = {}
    for depth in ("auto", "true_range", "type_range"):
        dataset = new_dataset(source)
        Dataset.objects.filter(pk=dataset.pk).update(options={"reading": {"depth": depth}})
        dataset.refresh_from_db()
        run_import(dataset)
        brightest[depth] = int(stored(dataset, "dim.png").max())
    assert brightest == {"auto": 2000 >> 4, "true_range": 255, "type_range": 2000 >> 8}


def test_the_digest_is_that_of_the_original(import_tree: ImportTree) -> None:
    content = saved(ramp(0, 4000, "u2"))
    dataset = import_tree({**two_classes(), "cat/a.png": content, "cat/b.png": content})
    duplicate = next(item for item in dataset.report if item["code"] == "duplicate")
    assert (duplicate["file"], "cat/a.png" in duplicate["message"]) == ("cat/b.png", True)


def test_annotations_of_rotated_deep_images_match_the_upright_file(import_tree: ImportTree) -> None:
    """The stored file is upright, like the boxes."""
    buffer = io.BytesIO()
    Image.fromarray(ramp(0, 1, "f4")[:30]).save(buffer, "TIFF", tiffinfo={274: 6})
    dataset = import_tree({**two_classes(), "cat/turned.tif": buffer.getvalue()})
    sample = next(sample for sample in read_index(dataset.folder).samples if "turned" in sample.path)
    upright = load_image(Path(dataset.source) / "cat" / "turned.tif", W, read_index(dataset.folder).conversion)
    assert (upright == load_image(dataset.folder / sample.path, W)).all()
    with Image.open(dataset.folder / sample.path) as file:
        assert (file.size, (sample.width, sample.height)) == ((30, W), (30, W))


def test_a_dataset_that_becomes_constant_is_refused(
    import_tree: ImportTree, new_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    flat = {
        f"{name}/{number}.tif": saved(np.full((H, W), 0.5 + number, "f4"), "TIFF")
        for name in "ab"
        for number in range(3)
    }
    dataset = import_tree(flat)
    assert (dataset.status, codes(dataset)) == (Dataset.Status.REFUSED, ["constant"])
    assert "Select another bit depth" in dataset.report[0]["message"]
    faint = {f"{name}/{number}.png": saved(ramp(number, 200 + number, "u2")) for name in "ab" for number in range(3)}
    dataset = new_dataset(write_tree(tmp_path / "faint", faint))
    Dataset.objects.filter(pk=dataset.pk).update(options={"reading": {"depth": "type_range"}})
    dataset.refresh_from_db()
    run_import(dataset)
    assert (dataset.status, codes(dataset)) == (Dataset.Status.REFUSED, ["constant"])


def test_constant_images_are_counted(import_tree: ImportTree) -> None:
    plain = {f"cat/plain{number}.png": annotated.png(Image.new("RGB", (9, 9), (number, 0, 0))) for number in range(3)}
    dataset = import_tree({**two_classes(), **plain})
    found = next(item for item in dataset.report if item["code"] == "constant")
    assert (dataset.status, found["count"]) == (Dataset.Status.READY, 3)


# Bands


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"packed": True},
        {"packed": True, "predictor": 2},
        {"separate": True},
        {"separate": True, "packed": True},
        {"tile": 16},
        {"tile": 16, "packed": True, "predictor": 2},
        {"tile": 16, "separate": True},
    ],
    ids=str,
)
def test_every_layout_of_bands_is_read(tmp_path: Path, order: str, dtype: str, layout: dict[str, Any]) -> None:
    if dtype.startswith("f") and layout.get("predictor") == 2:
        layout = {**layout, "predictor": 1}
    values = (np.random.default_rng(0).random((H, W, 5)) * 100).astype(dtype)
    path = tmp_path / "bands.tif"
    path.write_bytes(tiff(values, order=order, **layout))
    with path.open("rb") as file:
        header = read_header(file)
    assert header is not None
    assert (header.width, header.height, header.bands) == (W, H, 5)
    assert (read_bands(path, header, (4, 0, 2)) == values[..., [4, 0, 2]]).all()


def with_bands(count: int) -> dict[str, bytes | None]:
    """Class folders of TIFFs whose band b has 12-bit values around 1000 * b."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 300, (2, 3, H, W, count)) + 700 * np.arange(count)
    return {
        f"{'ab'[label]}/{number}.tif": tiff(noise[label, number].astype("u2"), packed=True)
        for label in range(2)
        for number in range(3)
    }


def test_ambiguous_bands_require_a_choice(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", with_bands(6))
    dataset = new_dataset(source)
    dataset.status = Dataset.Status.INSPECTING
    dataset.save()
    run_inspection(dataset)
    assert dataset.status == Dataset.Status.PROPOSED
    Dataset.objects.filter(pk=dataset.pk).update(status=Dataset.Status.IMPORTING)
    dataset.refresh_from_db()
    run_import(dataset)
    assert (dataset.status, set(codes(dataset))) == (Dataset.Status.REFUSED, {"bands"})
    assert "a/0.tif has 6 bands" in dataset.report[0]["message"]


def test_chosen_bands_become_red_green_and_blue(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = new_dataset(write_tree(tmp_path / "source", with_bands(6)))
    Dataset.objects.filter(pk=dataset.pk).update(options={"reading": {"bands": [5, 2, 0]}})
    dataset.refresh_from_db()
    run_import(dataset)
    means = stored(dataset, "a/0.tif").reshape(-1, 3).mean(axis=0)
    assert np.allclose(means, [(700 * band + 150) / 16 for band in (5, 2, 0)], atol=2)
    assert dataset.reading["conversion"] == {
        "integers": {"low": 0, "high": 4095, "bits": 12},
        "floats": None,
        "bands": [5, 2, 0],
    }


def test_a_dataset_of_plain_images_has_no_conversion(import_tree: ImportTree) -> None:
    dataset = import_tree(two_classes())
    assert read_index(dataset.folder).conversion is None
    assert "conversion" not in dataset.reading


def test_a_band_that_does_not_exist_is_refused(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = new_dataset(write_tree(tmp_path / "source", with_bands(5)))
    Dataset.objects.filter(pk=dataset.pk).update(options={"reading": {"bands": [5, 2, 0]}})
    dataset.refresh_from_db()
    run_import(dataset)
    assert dataset.status == Dataset.Status.REFUSED
    assert "there is no band 5" in dataset.report[0]["message"]


# Formats


@pytest.mark.parametrize("name", ["x.jfif", "x.jpe", "x.JFIF"])
def test_other_suffixes_of_jpeg_are_read(import_tree: ImportTree, name: str) -> None:
    dataset = import_tree({**two_classes(), f"cat/{name}": image(1, format_="JPEG")})
    assert (dataset.folder / "images" / "cat" / name).read_bytes() == image(1, format_="JPEG")


@pytest.mark.parametrize(("ending", "mode"), [("ppm", "RGB"), ("pgm", "L"), ("pbm", "1"), ("pnm", "RGB")])
def test_netpbm(import_tree: ImportTree, ending: str, mode: str) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(image(1))).convert(mode).save(buffer, "PPM")
    dataset = import_tree({**two_classes(), f"cat/x.{ending}": buffer.getvalue()})
    assert (dataset.status, codes(dataset, "warning")) == (Dataset.Status.READY, [])
    assert stored(dataset, f"x.{ending}").shape == (W, W, 3)


def photograph() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((W, H), Image.Resampling.BICUBIC)


@pytest.mark.skipif(not HAS_AVIF, reason="Pillow has been built without AVIF")
@pytest.mark.parametrize("alpha", [False, True])
def test_avif(import_tree: ImportTree, alpha: bool) -> None:
    buffer = io.BytesIO()
    original = photograph()
    if alpha:
        original.putalpha(Image.linear_gradient("L").resize(original.size))
    original.save(buffer, "AVIF", quality=95)
    check_converted(import_tree, "photo.avif", buffer.getvalue(), "png" if alpha else "jpg")


def test_heic(import_tree: ImportTree) -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(photograph()).save(buffer, quality=95)
    check_converted(import_tree, "IMG_0001.HEIC", buffer.getvalue(), "jpg")


def check_converted(import_tree: ImportTree, name: str, content: bytes, ending: str) -> None:
    dataset = import_tree({**two_classes(), f"cat/{name}": content})
    assert codes(dataset, "warning") == ["converted"]
    path = next(sample.path for sample in read_index(dataset.folder).samples if name in sample.path)
    assert path == f"images/cat/{name}.{ending}"
    with Image.open(dataset.folder / path) as file, Image.open(io.BytesIO(content)) as original:
        assert file.mode == original.mode
        difference = np.asarray(file, float) - np.asarray(original, float)
    assert np.abs(difference).mean() < 3


def test_heic_without_its_library(import_tree: ImportTree, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainingapp.datasets.sources import files, unread

    plain = files.IMAGE_SUFFIXES - unread.HEIF_SUFFIXES
    monkeypatch.setattr(files, "IMAGE_SUFFIXES", plain)
    monkeypatch.setattr(unread, "UNREAD_SUFFIXES", unread.UNREAD_SUFFIXES | unread.HEIF_SUFFIXES)
    photos = {f"cat/IMG_{number}.HEIC": b"\0\0\0\x18ftypheic" for number in range(3)}
    dataset = import_tree({**two_classes(), **photos})
    found = next(item for item in dataset.report if item["code"] == "ignored_file")
    assert (dataset.status, found["count"]) == (Dataset.Status.READY, 3)
    assert ".heic" in found["message"]
    assert 'pip install "cvstudio[heif]"' in found["message"]
    dataset = import_tree(photos)
    assert (dataset.status, codes(dataset)) == (Dataset.Status.REFUSED, ["no_images"])
    assert "None of the 3 images that were found (.heic) can be read" in dataset.report[0]["message"]


def test_the_review_offers_depth_and_bands(new_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    tree = {**two_classes(), **with_bands(6), "cat/deep.png": saved(ramp(0, 4095, "u2"))}
    dataset = new_dataset(write_tree(tmp_path / "source", tree))
    dataset.status = Dataset.Status.INSPECTING
    dataset.save()
    run_inspection(dataset)
    offers = {offer["field"]: offer for offer in dataset.proposal["reading"]["offers"]}
    assert offers["depth"]["used"] == "auto"
    assert offers["depth"]["choices"] == ["auto", "true_range", "type_range"]
    assert offers["bands"]["used"] == ""
    assert "3,2,1" in offers["bands"]["choices"]
