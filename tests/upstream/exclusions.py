"""The tests that assert what the series replaces on purpose: `upstream_exclusions.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "upstream_exclusions.toml"


@dataclass(frozen=True)
class Exclusion:
    """One entry. It is run all the same: one that passes is reported, so that it can go."""

    id: str
    mode: str
    reason: str


def load(mode: str) -> dict[str, Exclusion]:
    """The exclusions of one mode, by test id; stock has none.

    Raises ValueError for an entry that is not one.
    """
    entries = tomllib.loads(FILE.read_text())["excluded"]
    for entry in entries:
        if set(entry) != {"id", "mode", "reason"} or entry["mode"] not in ("plain", "native"):
            raise ValueError(f"{FILE.name}: an entry needs id, mode and reason: {entry}")
    return {entry["id"]: Exclusion(**entry) for entry in entries if entry["mode"] == mode}
