"""Gets the test suite of the installed Django, which only its sdist has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "upstream"


def suite() -> Path:
    """Return the `tests` folder of the installed Django's sdist, downloaded by pip if need be.

    Raises SystemExit, with pip's message, if the registry does not have it.
    """
    target = CACHE / f"django-{django.__version__}"
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _unpack(_download(Path(folder)), target)
    return target / "tests"


def _download(folder: Path) -> Path:
    requirement = f"Django=={django.__version__}"
    print(f"Downloading the sdist of {requirement} ...", flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-binary", "Django", "--dest", str(folder)]
    done = subprocess.run([*pip, *options, requirement], stdout=subprocess.PIPE, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        sys.exit(f"pip could not download the sdist of {requirement}: its message is above.")
    return archives[0]


def _unpack(archive: Path, target: Path) -> None:
    """Unpack into `target` at once: another process may be doing the same."""
    folder = archive.parent / "unpacked"
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    try:
        os.rename(source, target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(source)


def install_requirements() -> None:
    """Install what the suite's optional tests need, one by one: some need libraries of the system.

    Says which could not be installed; Django skips their tests.
    """
    lines = (suite() / "requirements" / "py3.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "oracledb"))]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, *wanted], capture_output=True).returncode == 0:
        return
    for requirement in wanted:
        if subprocess.run([*pip, requirement], capture_output=True).returncode:
            print(f"Not installed, so its tests are skipped: {requirement}")
