"""A built wheel contains the whole studio: templates, browser libraries and translations."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
#: One process makes what the tests of this module share.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = ["static/node_modules/bootstrap/dist", "locale/zh_Hans/LC_MESSAGES/django.mo"]
    if not all((REPOSITORY / name).exists() for name in built):
        pytest.skip("`make install` has not been run in this checkout")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=300)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, unpacked by pip; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, timeout=300)
    return folder


@pytest.fixture
def outside(installed: Path, studio_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment with the wheel and without the checkout."""
    env = {name: value for name, value in studio_env.items() if name != "DATA_DIR"}
    return {**env, "PYTHONPATH": str(installed), "XDG_DATA_HOME": str(tmp_path / "share")}


def run(env: dict[str, str], cwd: Path, *command: str) -> str:
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "cvstudio/_assets/templates/base.html",
        "cvstudio/_assets/static/css/layout.css",
        "cvstudio/_assets/static/node_modules/bootstrap/dist/css/bootstrap.min.css",
        "cvstudio/_assets/static/node_modules/bootstrap/LICENSE",
        "cvstudio/_assets/static/node_modules/bootstrap-icons/font/fonts/bootstrap-icons.woff2",
        "cvstudio/_assets/static/node_modules/uplot/dist/uPlot.iife.min.js",
        "cvstudio/_assets/static/node_modules/idiomorph/dist/idiomorph.min.js",
        "cvstudio/_assets/locale/zh_Hans/LC_MESSAGES/django.mo",
        "trainingapp/migrations/0001_initial.py",
        "trainingapp/engine/__main__.py",
    ],
)
def test_the_wheel_contains(wheel: Path, name: str) -> None:
    assert name in zipfile.ZipFile(wheel).namelist()


def test_the_wheel_contains_nothing_else_of_the_checkout(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "cvstudio",
        "trainingapp",
        wheel.name.split("-py3")[0] + ".dist-info",
    }
    assert not [name for name in names if "__pycache__" in name or "/data/" in name.replace("engine/data/", "")]


def test_every_template_and_static_file_of_the_checkout_is_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("templates", "static/css", "static/js", "static/img"):
        for path in (REPOSITORY / folder).rglob("*.*"):
            assert f"cvstudio/_assets/{path.relative_to(REPOSITORY)}" in names


def test_the_console_command_runs_from_the_wheel(installed: Path, outside: dict[str, str], tmp_path: Path) -> None:
    run(outside, tmp_path, sys.executable, str(installed / "bin" / "cvstudio"), "check", "--fail-level", "WARNING")
    assert "trainingapp" in run(outside, tmp_path, sys.executable, "-m", "cvstudio", "showmigrations")


def test_an_installed_studio_keeps_its_data_out_of_site_packages(
    installed: Path, outside: dict[str, str], tmp_path: Path
) -> None:
    program = "from cvstudio import settings; print(settings.__file__, settings.DATA_DIR)"
    file, data_dir = run(outside, tmp_path, sys.executable, "-c", program).split()
    assert Path(file).is_relative_to(installed)
    assert data_dir == str(tmp_path / "share" / "cvstudio")


def test_static_files_have_versions_and_are_compressed_from_the_wheel(outside: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import django; django.setup(); from django.test import Client\n"
        "from django.contrib.staticfiles.storage import staticfiles_storage\n"
        "address = staticfiles_storage.url('vendor/bootstrap/css/bootstrap.min.css')\n"
        "response = Client().get(address, headers={'Accept-Encoding': 'gzip'})\n"
        "print(address, response.status_code, response['Content-Encoding'], response['Cache-Control'], sep='|')"
    )
    env = {**outside, "DJANGO_SETTINGS_MODULE": "cvstudio.settings"}
    address, *answer = run(env, tmp_path, sys.executable, "-c", program).strip().split("|")
    assert re.fullmatch(r"/static/[0-9a-f]{12}/vendor/bootstrap/css/bootstrap\.min\.css", address)
    assert answer == ["200", "gzip", "max-age=31536000, public, immutable"]


def test_pages_are_styled_and_translated_from_the_wheel(outside: dict[str, str], tmp_path: Path) -> None:
    found = run(
        outside, tmp_path, sys.executable, "-m", "cvstudio", "findstatic", "--first", "vendor/uplot/uPlot.min.css"
    )
    assert "_assets" in found
    program = (
        "import django; django.setup(); from django.utils.translation import gettext, override\n"
        "with override('zh-hans'): print(gettext('dataset'))"
    )
    env = {**outside, "PYTHONIOENCODING": "utf-8", "DJANGO_SETTINGS_MODULE": "cvstudio.settings"}
    assert run(env, tmp_path, sys.executable, "-c", program).strip() == "数据集"
    assert not (Path(os.environ["DATA_DIR"]) / "share").exists()
