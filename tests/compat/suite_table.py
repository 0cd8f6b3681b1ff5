"""The table of suites: what `suites.toml` says, what is installed, and where the tests are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat.table import version
from upstream import sdist

FILE = Path(__file__).with_name("suites.toml")
CACHE: Path = sdist.CACHE.with_name("suites")
MODES = ("plain", "native")


@dataclass(frozen=True)
class Suite:
    """A row of the table; `suites.toml` says what its fields are."""

    package: str
    tests: str
    settings: str = ""
    configure: bool = False
    databases: tuple[str, ...] = ()
    cooperative: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    no_tests: str = ""

    @property
    def version(self) -> str:
        """The installed version, or nothing."""
        return version(self.package) or ""

    def why_not(self, database: str) -> str:
        """Why it is not run on this database, or nothing."""
        if not self.version:
            return "not installed"
        if self.databases and database not in self.databases:
            return f"not for {database}"
        return ""

    def listed(self, source: Path) -> list[str]:
        """The modules whose code may run on the loop: the tests are as trusted as Django."""
        folder = source / self.tests
        names = [folder.name]
        if not (folder / "__init__.py").exists():
            names = sorted(path.stem for path in folder.iterdir() if path.stem.isidentifier())
        return [*self.cooperative, *names]

    def source(self) -> Path:
        """The unpacked sdist of the installed version, downloaded by pip if need be.

        Raises SystemExit if the registry does not have it, or if it has no tests.
        """
        target = CACHE / f"{self.package}-{self.version}"
        if not target.is_dir():
            CACHE.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                sdist._unpack(self._download(Path(folder)), target)
        if not (target / self.tests).is_dir():
            sys.exit(f"The sdist of {self.package} {self.version} has no folder {self.tests}.")
        return target

    def _download(self, folder: Path) -> Path:
        requirement = f"{self.package}=={self.version}"
        print(f"Downloading the sdist of {requirement} ...", flush=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--no-binary", self.package, "--dest", str(folder)]
        done = subprocess.run([*pip, *options, requirement], stdout=subprocess.PIPE, text=True)
        archives = list(folder.glob("*.tar.gz"))
        if done.returncode or len(archives) != 1:
            sys.exit(f"pip could not download the sdist of {requirement}: its message is above.")
        return archives[0]


def suites() -> dict[str, Suite]:
    """All rows by the names of their packages, in the order of the table."""
    rows = tomllib.loads(FILE.read_text())["suite"]
    return {row["package"]: _suite(row) for row in rows}


def _suite(row: dict[str, Any]) -> Suite:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
    }
    return Suite(**fields)


def exclusions(package: str, mode: str) -> dict[str, str]:
    """The tests of a suite whose failure in this mode does not count, with the reasons.

    They are run all the same. Raises ValueError for an entry that is not one.
    """
    entries = tomllib.loads(FILE.read_text()).get("excluded", [])
    for entry in entries:
        if set(entry) != {"package", "id", "modes", "reason"} or not set(entry["modes"]) <= {
            *MODES
        }:
            raise ValueError(f"{FILE.name}: needs package, id, modes and reason: {entry}")
    return {
        entry["id"]: entry["reason"]
        for entry in entries
        if entry["package"] == package and mode in entry["modes"]
    }
