"""Rows of the goals table: numbers of several rounds, and what is asked of them."""

import dataclasses
import statistics

from .poolers import OLD, PGBOUNCER

DIRECT = "postgresql"


def in_turn(targets, rounds, measure):
    """{name: [measure(target) of each round]}; the order rotates from round to round."""
    results = {target.name: [] for target in targets}
    for number in range(rounds):
        start = number % len(targets)
        for target in targets[start:] + targets[:start]:
            results[target.name].append(measure(target))
    return results


def pick(results, measure):
    """{name: [value of each round]}"""
    return {name: [run[measure] for run in runs] for name, runs in results.items()}


def ratios(values, base):
    """{name: [ratio to the base's value of the same round]}, without the base."""
    below = values.get(base)
    if not below:
        return {}
    return {
        name: [a / b for a, b in zip(runs, below) if b > 0] for name, runs in values.items() if name != base
    }


def to_pgbouncer(values):
    return ratios(values, PGBOUNCER)


def quotients(above, below):
    """{name: [quotient of the two in each round]}"""
    return {name: [a / b for a, b in zip(above[name], below[name])] for name in above if name in below}


@dataclasses.dataclass
class Row:
    what: str
    # ("at most" or "at least", limit), or None where a number is only shown.
    goal: tuple | None
    # {name: [value of each round]}
    values: dict
    form: str
    # {name: [of each round]}: what the goal is about.
    judged: dict
    judged_form: str = "{:.3f}"

    def value(self, name):
        runs = self.values.get(name)
        return self.form.format(statistics.median(runs)) if runs else "–"

    def median(self, name):
        runs = self.judged.get(name)
        return statistics.median(runs) if runs else None

    def goal_text(self):
        return f"{self.goal[0]} {self.goal[1]:g}" if self.goal else "–"

    def ratio_text(self, names):
        medians = [self.median(name) for name in names]
        if all(m is None for m in medians):
            return "–"
        text = " / ".join("–" if m is None else self.judged_form.format(m) for m in medians)
        other = self.median(PGBOUNCER)
        return text if other is None else f"{text} (PgBouncer: {self.judged_form.format(other)})"

    def meets(self, median):
        kind, limit = self.goal
        return median <= limit if kind == "at most" else median >= limit

    def met_text(self, names):
        """yes, no, or who of several does; a candidate without a number does not count, nor does an old binary."""
        if not self.goal:
            return "–"
        names = [name for name in names if name != OLD]
        medians = {name: self.median(name) for name in names}
        judged = {name: self.meets(m) for name, m in medians.items() if m is not None}
        if not judged:
            return "not measured"
        if len(set(judged.values())) == 1:
            answer = "yes" if all(judged.values()) else "**no**"
            return answer if len(judged) == len(names) else f"{answer} ({', '.join(map(short, judged))})"
        return "only " + ", ".join(short(name) for name, met in judged.items() if met)


def short(name):
    return name.removeprefix("pgweir ")


def table(rows, names):
    """The goals table. `names`: those that are judged, i.e. all of pgweir's."""
    shorts = " / ".join(short(name) for name in names)
    lines = [
        f"| what | goal | pgweir ({shorts}) | PgBouncer | ratio | met? |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        own = " / ".join(row.value(name) for name in names)
        cells = [row.what, row.goal_text(), own, row.value(PGBOUNCER), row.ratio_text(names), row.met_text(names)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
