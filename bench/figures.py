"""The figures: what is compared, in which unit, and what is to be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

__all__ = ["FIGURES", "Figure", "Target", "ratio", "report", "table"]

LASH, HTTPX, AIOHTTP = "lash", "raw httpx", "raw aiohttp"


class Target(NamedTuple):
    """`lash` is at most `bound` times `against`; without `against`, at most `bound` itself."""

    bound: float
    against: str | None = None

    def reached(self, samples: Mapping[str, Any]) -> float:
        """What was measured, in the terms of the bound."""
        mine = samples[LASH]["wall"]
        return ratio(mine, samples[self.against]["wall"]) if self.against else median(mine)


class Figure(NamedTuple):
    """One line of the table. `scale` makes the unit out of what was measured; `path` is the server's."""

    title: str
    unit: str
    scale: float
    path: str
    targets: Sequence[Target]
    contenders: Sequence[str] = (LASH, HTTPX, AIOHTTP)


# Throughput "at least 2.5 times raw httpx" is time "at most 1/2.5".
FIGURES: Mapping[str, Figure] = {
    "turn": Figure("one turn, committed", "ms", 1e3, "text", [Target(1.0, HTTPX), Target(3.0, AIOHTTP)]),
    "rounds": Figure("four tool rounds, committed", "ms", 1e3, "tools", [Target(1.0, HTTPX), Target(3.0, AIOHTTP)]),
    "concurrent": Figure(
        "200 sessions at once, per turn", "ms", 1e3, "text", [Target(1 / 2.5, HTTPX), Target(3.0, AIOHTTP)]
    ),
    "stream": Figure("2,000 deltas, per delta", "µs", 1e6, "long", [Target(35.0)]),
    "history": Figure("next turn after 5,000, warm", "ms", 1e3, "text", [Target(0.5, HTTPX)]),
    "cold": Figure("next turn after 5,000, new process", "ms", 1e3, "text", [Target(0.8, HTTPX)]),
    "reload": Figure("the same, all imported before: reload and turn", "ms", 1e3, "text", [Target(0.8, HTTPX)]),
    "idle": Figure("an open idle session", "bytes", 1.0, "", [Target(4096)], (LASH,)),
    "files": Figure("file descriptors of 1,000 open sessions", "", 1.0, "", [Target(0)], (LASH,)),
    "open": Figure("opening a session, store apart", "µs", 1.0, "", [Target(100)], (LASH,)),
    "registered": Figure("pluggy registrations when opening 500", "", 1.0, "", [Target(0)], (LASH,)),
    "request": Figure("`lash run` to its first connection (https)", "ms", 1e3, "", [Target(1.3, HTTPX)], (LASH, HTTPX)),
    "request_bare": Figure(
        "`lash run` to its first connection (https), no trio", "ms", 1e3, "", [Target(1.3, HTTPX)], (LASH, HTTPX)
    ),
}


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the quotients of samples that were taken one after the other."""
    return median(a / b for a, b in zip(mine, theirs, strict=True))


def report(results: Mapping[str, Any]) -> str:
    """All that the README shows of the results."""
    facts = results["machine"]
    middle, least, most = facts["commit_ms"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))
    about = (
        f"Python {facts['python']}, {facts['system']}, {facts['cpus']} shared cores (load {facts['load']}), "
        f"{versions}. {facts['samples']} samples per contender. One row in one FULL commit took {middle} ms here "
        f"({least}–{most}), the server {facts['server_us']} µs for a short answer to a client that only waits."
    )
    pages = [about, table(results)]
    for name, printed in sorted(results.get("others", {}).items()):
        pages.append(f"What `{name}` printed:\n\n```text\n{printed}\n```")
    return "\n\n".join(pages)


def table(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| figure | lash | raw httpx | raw aiohttp | CPU of these | lash is | target | met |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figure in FIGURES.items():
        samples = results["figures"].get(name)
        if samples is None:
            continue
        cells = [f"{figure.title}, {figure.unit}" if figure.unit else figure.title]
        cells += [_range(samples.get(each), figure.scale) for each in (LASH, HTTPX, AIOHTTP)]
        spent = [samples[each]["cpu"] for each in figure.contenders if samples[each].get("cpu")]
        cells.append(" / ".join(_number(median(each) * figure.scale) for each in spent))
        reached = [
            (target, target.reached(samples) * (1 if target.against else figure.scale)) for target in figure.targets
        ]
        cells.append("; ".join(_said(target, value, figure) for target, value in reached))
        cells.append("; ".join(_wanted(target, figure) for target, _ in reached))
        cells.append("; ".join(_verdict(target, value) for target, value in reached))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _range(samples: Mapping[str, Sequence[float]] | None, scale: float) -> str:
    if samples is None:
        return ""
    values = [each * scale for each in samples["wall"]]
    middle = _number(median(values))
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))}–{_number(max(values))})"


def _said(target: Target, value: float, figure: Figure) -> str:
    return f"{value:.2f} × {target.against}" if target.against else f"{_number(value)} {figure.unit}".strip()


def _wanted(target: Target, figure: Figure) -> str:
    if target.against:
        return f"≤ {target.bound:.2g} ×"
    return f"≤ {_number(target.bound)} {figure.unit}".strip()


def _verdict(target: Target, value: float) -> str:
    return "yes" if value <= target.bound else f"no, by {value / target.bound - 1:.0%}"
