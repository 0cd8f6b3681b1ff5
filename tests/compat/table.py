"""The table of packages: what `packages.toml` says, what is installed of it, and how it is run."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from servers import answers

HERE = Path(__file__).parent
LIMIT = 150  # seconds for one site


@dataclass(frozen=True)
class Package:
    """A row. `names` are the distributions that its script needs, its own first."""

    names: tuple[str, ...]
    script: str
    set: str
    databases: tuple[str, ...]
    servers: tuple[str, ...]
    lacks: str  # what does not work yet: its site fails for that

    @property
    def what(self) -> str:
        """What is run, as the script says it."""
        doc = ast.get_docstring(ast.parse((HERE / self.script).read_text()))
        return (doc or "").partition("\n")[0]

    def why_not(self, database: str) -> str:
        """Why it cannot be run here, or nothing."""
        if missing := [name for name in self.names if version(name) is None]:
            return f"{', '.join(missing)} not installed"
        if database not in self.databases:
            return f"not for {database}"
        if absent := [name for name in self.servers if not answers(name)]:
            return f"{', '.join(absent)} does not answer"
        return ""

    def fault(self, database: str, pool: str = "") -> str:
        """Run its site. Returns nothing, or what it said where something is wrong."""
        done = subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", HERE / self.script],
            env={**os.environ, "TEST_DB": database, "POOL": pool},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        ended = done.returncode == 0 and done.stdout.endswith("ok\n")
        quiet = not any(word in done.stderr for word in ("Traceback", "ResourceWarning"))
        return "" if ended and quiet else f"{done.stdout}\n{done.stderr}"


def version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def packages() -> list[Package]:
    """All rows, in the order of the page."""
    with (HERE / "packages.toml").open("rb") as file:
        rows = tomllib.load(file)["package"]
    return [
        Package(
            names=(row["name"], *row.get("with", ())),
            script=row["script"],
            set=row["set"],
            databases=tuple(row.get("databases", ("sqlite", "postgresql"))),
            servers=tuple(row.get("servers", ())),
            lacks=row.get("lacks", ""),
        )
        for row in rows
    ]
