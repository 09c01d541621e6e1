"""The claims ledger: every published number, what answers it, and a verdict that is computed."""

from __future__ import annotations

import json
import math
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy import stats

from .records import Record, RecordStore
from .specs import Spec

# "index" is a score such as ARI or NMI given as a fraction; "number" what has no range, such as an FID
RANGES = {"percent": (0.0, 100.0), "index": (-1.0, 1.0), "probability": (0.0, 1.0), "seconds": (0.0, math.inf),
          "count": (0.0, math.inf), "number": (-math.inf, math.inf)}
Unit = Literal["percent", "index", "probability", "seconds", "count", "number"]
Verdict = Literal["reproduced", "exceeded", "not reproduced", "at reduced scale", "quoted", "context", "not run"]
VERDICTS: tuple[str, ...] = ("reproduced", "exceeded", "not reproduced", "at reduced scale", "not run", "quoted", "context")
OF_TWO = ("p-value", "ratio", "increase", "difference")  # reductions of two methods' runs to one number
TOLERANCE = {"percent": 2.0, "index": 0.02}  # percentage points, hundredths; the protocol page says why
LEVEL = 0.05  # the p below which a test tells two things apart
LEAST_RUNS = 5  # behind an interval that a published value may be reproduced by: of two runs it holds nearly everything


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Where(_Strict):
    """The place in the paper: a table's row and column, a figure, or a section."""

    table: str | None = None
    figure: str | None = None
    section: str | None = None
    row: str | None = None
    column: str | None = None

    def __str__(self) -> str:
        place = f"Table {self.table}" if self.table else f"Figure {self.figure}" if self.figure else f"Section {self.section}"
        return ", ".join(str(part) for part in (place, self.row, self.column) if part)


class AnsweredBy(_Strict):
    """Which records answer a claim, and how they are reduced to one number.

    ``reduce``: ``best`` takes the run with the best objective, as VaDE did; ``mean`` the mean over seeds;
    ``min`` and ``max`` their extremes; ``p-value`` is that of Welch's test against ``against``, ``ratio``,
    ``increase`` (in per cent of the other) and ``difference`` those of the two means. An order claim compares with ``against``, the other method, in
    ``against_experiment`` and by ``against_metric`` where these are other ones. ``chosen_by`` names
    the metric by which the paper took its best run, where that is not the objective. Of a
    property, ``metric`` is the name: a check of one record of the method, or a comparison of the recorded runs
    of every method of the experiment.
    """

    experiment: str
    method: str
    metric: str
    reduce: Literal["best", "mean", "min", "max", "p-value", "ratio", "increase", "difference"] = "mean"
    against: str | None = None
    against_experiment: str | None = None
    against_metric: str | None = None
    chosen_by: str | None = None


class Claim(_Strict):
    """One published number or statement.

    ``kind``: ``value`` is compared with a number of ours; ``order`` says that one method beats another;
    ``property`` holds where a named check of ours does; ``quoted`` is a cell that the paper takes from
    elsewhere; ``context`` is shown and not judged (a data set's size, seconds on other hardware).
    ``cell`` names what is measured, method/data/metric, in the same words wherever a paper reports it, so that
    papers that disagree are found. ``doubt`` says why a printed figure looks wrong, or what makes our comparison with it
    doubtful. ``computed`` names a check that
    needs no records: it is computed whenever the ledger is. ``reduced`` says in what the runs that answer it are smaller than
    those of its source, where no parameter of ours shows it. ``level`` is the p below which an order holds, where the paper
    names another than 0.05.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+(/[a-z0-9+.-]+)+$")
    where: Where
    says: str | None = None
    kind: Literal["value", "order", "property", "quoted", "context"] = "value"
    value: float | None = None
    spread: float | None = None
    runs: int | None = None
    unit: Unit | None = None
    better: Literal["higher", "lower"] = "higher"
    quoted_from: str | None = None
    answered_by: AnsweredBy | None = None
    computed: str | None = None
    tolerance: float | None = None
    level: float = Field(default=LEVEL, gt=0, lt=1)
    cell: str | None = Field(default=None, pattern=r"^[a-z0-9+.-]+/[a-z0-9+.-]+/[a-z0-9+.-]+$")
    doubt: str | None = None
    why: str | None = None
    reduced: str | None = None
    not_run: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Claim:
        if self.value is not None:
            if self.unit is None:
                raise ValueError("a value needs a unit")
            low, high = RANGES[self.unit]
            if not low <= self.value <= high:
                raise ValueError(f"value {self.value:g} is outside {self.unit}'s range [{low:g}, {high:g}]")
        elif self.kind in ("value", "quoted") and not self.not_run:
            raise ValueError(f"a claim of kind {self.kind!r} needs a value")
        if self.kind == "quoted" and not self.quoted_from:
            raise ValueError("a quoted claim needs quoted_from")
        by = self.answered_by
        if self.kind in ("value", "order", "property") and not (by or self.computed or self.not_run):
            raise ValueError("needs answered_by, computed, or not_run with the reason")
        if by and not by.against and (self.kind == "order" or by.reduce in OF_TWO):
            raise ValueError("an order claim, a p-value, a ratio, an increase and a difference need answered_by.against")
        if self.kind == "property" or self.computed:
            from .papers import CHECKS, COMPARISONS, PROPERTIES
            if by and by.metric not in PROPERTIES | COMPARISONS:
                raise ValueError(f"no property {by.metric!r}; there are {', '.join(PROPERTIES | COMPARISONS)}")
            if self.computed and self.computed not in CHECKS:
                raise ValueError(f"no check {self.computed!r}; there are {', '.join(CHECKS)}")
        return self


class Ledger(_Strict):
    """The claims of one paper; ``main`` are the ids of those that its chapter opens with."""

    paper: str
    short: str
    title: str
    citation: str
    year: int
    main: list[str] = []
    claims: list[Claim]

    @model_validator(mode="after")
    def _ids(self) -> Ledger:
        seen = set()
        for claim in self.claims:
            if claim.id in seen:
                raise ValueError(f"the id {claim.id!r} stands twice")
            if not claim.id.startswith(f"{self.paper}/"):
                raise ValueError(f"the id {claim.id!r} must begin with {self.paper!r}/")
            seen.add(claim.id)
        if unknown := [name for name in self.main if name not in seen]:
            raise ValueError(f"main names {', '.join(unknown)}, and no claim has such an id")
        return self


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # C is ten times as fast, where the library was built with it
    """Refuses a key that stands twice in a mapping: YAML's own loader takes the last, and says nothing of the others."""

    def construct_mapping(self, node, deep=False):
        seen: list = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.append(key.value)
        return super().construct_mapping(node, deep)


def read_ledger(path: Path) -> Ledger:
    """A claims file. ValueError that names the file, and the line and the field that are wrong."""
    text = path.read_text()
    try:
        return Ledger.model_validate(yaml.load(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        root = yaml.compose(text, Loader=_Loader)
        lines = [f"  line {_line(root, e['loc'])}, {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ValueError("\n".join([f"{path} does not fit the ledger's schema:", *lines])) from error


def _line(node: yaml.Node, place: tuple[str | int, ...]) -> int:
    """The line, from 1, of the deepest node that a place leads to."""
    for key in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key]
        elif isinstance(node, yaml.MappingNode):
            found = [value for name, value in node.value if name.value == key]
            if not found:
                break
            node = found[0]
    return node.start_mark.line + 1


class Answer(BaseModel):
    """What we measured for a claim: the reduced value and its interval in the claim's unit, and the verdict."""

    claim: Claim
    verdict: Verdict
    reason: str = ""
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    values: list[float] = []
    others: list[float] = []  # of the method that an order compares with
    records: list[Record] = []
    scale: str = ""


def answer(claim: Claim, store: RecordStore) -> Answer:
    """The verdict on a claim from the paper-profile records in ``store``, by the protocol's rules."""
    if claim.kind in ("quoted", "context") and claim.answered_by is None:
        return Answer(claim=claim, verdict=claim.kind, reason=claim.quoted_from or claim.why or "")
    if claim.computed:
        from .papers import CHECKS
        holds, reason = CHECKS[claim.computed]()
        return Answer(claim=claim, verdict="reproduced" if holds else "not reproduced", reason=reason)
    if claim.answered_by is None:
        return Answer(claim=claim, verdict="not run", reason=claim.not_run or "")
    by = claim.answered_by
    records = runs_of(store, by.experiment, by.method)
    if claim.kind != "property":
        records = _having(records, by.metric)
    if not records:
        return Answer(claim=claim, verdict="not run", reason=claim.not_run or "no record yet")
    scale = _all_of(claim.reduced, shortfall([record.spec for record in records]))
    if claim.kind == "property":
        return _property(claim, store, records, scale)
    if by.against:
        others = _having(runs_of(store, by.against_experiment or by.experiment, by.against), by.against_metric or by.metric)
        if claim.kind == "order" or by.reduce == "p-value":
            return _welch(claim, records, others, scale)
        if not others:
            return Answer(claim=claim, verdict="not run", reason=claim.not_run or f"no record of {by.against} yet")
        scale = _all_of(scale, shortfall([record.spec for record in others]))
        ours, theirs = (statistics.fmean(in_unit(r, metric, claim.unit) for r in runs)
                        for runs, metric in ((records, by.metric), (others, by.against_metric or by.metric)))
        compared = {"ratio": ours / theirs, "increase": 100 * (ours / theirs - 1), "difference": ours - theirs}
        measured, low, high = compared[by.reduce], None, None
        values, records = [measured], _united(records, others)
    else:
        values = [in_unit(record, by.metric, claim.unit) for record in records]
        chosen = max(range(len(records)), key=lambda i: records[i].metrics[by.chosen_by] if by.chosen_by else records[i].objective)
        reduced = {"best": lambda v: v[chosen], "mean": statistics.fmean, "min": min, "max": max}
        measured = reduced[by.reduce](values)
        low, high = interval(values)
    found = dict(claim=claim, measured=measured, low=low, high=high, values=values, records=records, scale=scale)
    if claim.kind == "context":
        return Answer(verdict="context", reason=claim.why or "", **found)
    if scale:
        return Answer(verdict="at reduced scale", reason=scale, **found)
    if by.reduce in ("min", "max") and len(values) < (claim.runs or LEAST_RUNS):
        extreme = {"min": "smallest", "max": "largest"}[by.reduce]
        found["scale"] = f"the {extreme} of {len(values)} run{'s' * (len(values) != 1)}, where the paper had {claim.runs or 'more'}"
        return Answer(verdict="at reduced scale", reason=found["scale"], **found)
    if by.reduce == "mean" and len(values) == 1 and claim.runs != 1:
        found["scale"] = f"one run, where the paper {f'has the mean of {claim.runs}' if claim.runs else 'does not say of how many its mean is'}"
        return Answer(verdict="at reduced scale", reason=found["scale"], **found)
    tolerance = claim.tolerance if claim.tolerance is not None else TOLERANCE.get(claim.unit, 0.0)
    found["reason"] = f"tolerance {tolerance:g}"
    inside = by.reduce == "mean" and low is not None and low <= claim.value <= high
    if abs(measured - claim.value) <= tolerance or (inside and len(values) >= LEAST_RUNS):
        return Answer(verdict="reproduced", **found)
    if inside:
        found["reason"] = found["scale"] = (f"the interval of {len(values)} runs holds the published value, but that of fewer than "
                                            f"{LEAST_RUNS} is too wide to say so")
        return Answer(verdict="at reduced scale", **found)
    directed = claim.unit != "count" or "better" in claim.model_fields_set  # more clusters are not better ones
    if directed and (measured > claim.value) == (claim.better == "higher"):
        return Answer(verdict="exceeded", **found)
    if by.reduce == "best" and len(values) < (claim.runs or 2):  # one run has no best
        found["reason"] = found["scale"] = (f"the best of {len(values)} run{'s' * (len(values) != 1)}, where the paper had "
                                            f"{claim.runs or 'several'}")
        return Answer(verdict="at reduced scale", **found)
    return Answer(verdict="not reproduced", **found)


def _having(records: list[Record], metric: str) -> list[Record]:
    """The records that have a metric: what could not be measured where a run was made is in none of its records."""
    return [record for record in records if metric == SECONDS or metric in record.metrics]


def _property(claim: Claim, store: RecordStore, records: list[Record], scale: str) -> Answer:
    """The named check, on the run with the best objective; or the named comparison, on the runs of all methods."""
    from ..datasets import load
    from .papers import COMPARISONS, EXPERIMENTS, PROPERTIES
    by = claim.answered_by
    if by.metric in COMPARISONS:
        runs = _Runs(store, by.experiment, EXPERIMENTS[by.experiment].methods)
        try:
            holds, reason = COMPARISONS[by.metric](runs)
        except LookupError as error:  # a comparison says what it lacks
            holds, reason = None, str(error)
        used = [record for own in runs.asked.values() for record in own]
        found = dict(claim=claim, records=used, scale=_all_of(claim.reduced, shortfall([record.spec for record in used])))
        if holds is None:
            return Answer(verdict="not run", reason=reason, **found)
    else:
        record = max(records, key=lambda r: r.objective)
        data = load(record.spec.dataset, n_samples=record.spec.n_samples)
        found = dict(claim=claim, records=[record], scale=scale)
        holds, reason = PROPERTIES[by.metric](record, store.arrays(record), data)
    return _judged(holds, reason, found)


class _Runs(Mapping):
    """The paper-profile runs of an experiment by method, and of any other one by (experiment, method). ``asked`` are those
    that a comparison has asked for: what its answer rests on."""

    def __init__(self, store: RecordStore, experiment: str, methods: Iterable[str]):
        self.store, self.experiment, self.methods = store, experiment, list(methods)
        self.asked: dict[str | tuple[str, str], list[Record]] = {}

    def __getitem__(self, key: str | tuple[str, str]) -> list[Record]:
        if key not in self.asked:
            experiment, method = key if isinstance(key, tuple) else (self.experiment, key)
            self.asked[key] = runs_of(self.store, experiment, method)
        return self.asked[key]

    def __iter__(self):
        return iter(self.methods)

    def __len__(self):
        return len(self.methods)


def _judged(holds: bool, reason: str, found: dict) -> Answer:
    """A statement's verdict: below the paper's scale none is drawn."""
    if found["scale"]:
        return Answer(verdict="at reduced scale", reason=f"{reason}; {found['scale']}", **found)
    return Answer(verdict="reproduced" if holds else "not reproduced", reason=reason, **found)


def _welch(claim: Claim, records: list[Record], others: list[Record], scale: str) -> Answer:
    """Welch's one-sided test that the first method scores better: for an order, or for its p-value.

    A printed p-value speaks of the number of runs as much as of the methods, so it is not matched as a number:
    it is reproduced if both p-values lie on the same side of 0.05. That no difference is seen counts only in ``LEAST_RUNS`` runs
    of each or more: of fewer, the test would miss a large one.
    """
    by, unit = claim.answered_by, (claim.unit if claim.kind == "order" else None) or "percent"
    a = [in_unit(r, by.metric, unit) for r in records]
    b = [in_unit(r, by.against_metric or by.metric, unit) for r in others]
    found = dict(claim=claim, records=_united(records, others), scale=_all_of(scale, shortfall([r.spec for r in others])))
    if len(a) < 2 or len(b) < 2:
        return Answer(verdict="not run", reason=f"Welch's test needs two runs of each; there are {len(a)} and {len(b)}", **found)
    higher = claim.kind != "order" or claim.better == "higher"
    p = welch(a, b, higher)
    form = {"number": ".4g", "index": ".4f"}.get(unit, ".2f")  # a number has any size
    ours, theirs = (f"{statistics.fmean(values):{form}}" for values in (a, b))
    reason = f"{ours} against {theirs} ({len(a)} and {len(b)} runs), Welch p = {p:.2g}" + (
        f", to be below {claim.level:g}" if claim.level != LEVEL else "")
    level = claim.level if claim.kind == "order" else LEVEL
    if p >= level and welch(a, b, not higher) >= LEVEL and min(len(a), len(b)) < LEAST_RUNS and not found["scale"]:
        return Answer(verdict="not run", reason=f"{reason}: too few runs to see no difference", **found | {"values": a, "others": b})
    if claim.kind == "order":
        return _judged(p < claim.level, reason, found | {"values": a, "others": b})
    return _judged((p < LEVEL) == (claim.value < LEVEL), reason, found | {"values": [p], "measured": p})


def _united(records: list[Record], others: list[Record]) -> list[Record]:
    """Both, once each: two metrics of one method are of the same runs."""
    return records + [record for record in others if record not in records]


def recorded(runs: Mapping[str | tuple[str, str], Sequence[Record]], key: str | tuple[str, str], least: int = 1) -> Sequence[Record]:
    """A method's runs, of those that a comparison is given, or an (experiment, method)'s. LookupError where they are fewer
    than ``least``."""
    from .papers import METHODS
    found = runs.get(key, ())
    if len(found) < least:
        name = METHODS[key].title if isinstance(key, str) else f"{METHODS[key[1]].title} of {key[0]}"
        raise LookupError(f"{name}: {len(found)} of at least {least} run{'s' if least > 1 else ''}")
    return found


def welch(a: list[float], b: list[float], higher: bool = True) -> float:
    """p of Welch's one-sided test that the mean behind ``a`` is higher (or lower) than that behind ``b``."""
    if max(statistics.pstdev(a), statistics.pstdev(b)) > 0:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Precision loss")  # where one of them has no spread, which the test can do with
            return float(stats.ttest_ind(a, b, equal_var=False, alternative="greater" if higher else "less").pvalue)
    gain = statistics.fmean(a) - statistics.fmean(b)  # neither has any spread: the test has no answer, the means have
    return 0.0 if (gain > 0 if higher else gain < 0) else 1.0


def f_test(larger: list[float], smaller: list[float]) -> float:
    """p of the one-sided F test that the variance behind ``larger`` is the larger one."""
    ratio = statistics.variance(larger) / max(statistics.variance(smaller), 1e-12)
    return float(stats.f.sf(ratio, len(larger) - 1, len(smaller) - 1))


def decided(holds: float, fails: float, otherwise: str) -> bool:
    """Whether a statement holds, from the p of a one-sided test that says so and of the one that says the opposite. LookupError, with
    the words ``otherwise``, where neither does."""
    if min(holds, fails) >= LEVEL:
        raise LookupError(otherwise)
    return holds < fails


def better(a: list[float], b: list[float], words: str) -> bool:
    """Whether the mean behind ``a`` is the higher one, where Welch's test says so in one direction or the other.

    LookupError where it tells the two apart in neither: a statement is not decided by the sign of what may be chance.
    """
    above, below = welch(a, b), welch(b, a)
    return decided(above, below, f"{words}: not decided, Welch p = {min(above, below):.2g} ({len(a)} and {len(b)} runs)")


def none_better(groups: Sequence[list[float]], one: list[float], words: str) -> bool:
    """Whether the mean behind none of ``groups`` is higher than that behind ``one``, in per cent, but for the protocol's tolerance;
    one is where Welch's test says so without the tolerance. LookupError between the two."""
    if any(welch(group, one) < LEVEL for group in groups):
        return False
    if all(welch([v + TOLERANCE["percent"] for v in one], group) < LEVEL for group in groups):
        return True
    raise LookupError(f"{words}: a gain is neither shown nor ruled out by Welch's test of {len(one)} and "
                      f"{', '.join(str(len(group)) for group in groups)} runs")


SECONDS = "seconds_per_epoch"  # not a metric of the record: it is in the history


def in_unit(record: Record, metric: str, unit: str | None) -> float:
    """A metric of a record in a claim's unit; ``seconds_per_epoch`` is the median over the last phase."""
    if metric == SECONDS:
        last = record.history[-1]["phase"]
        return statistics.median(h["seconds"] for h in record.history if h["phase"] == last)
    value = record.metrics[metric]
    if value is None:
        raise ValueError(f"{record.spec}: {metric} is not a number")
    return 100 * value if unit == "percent" else value


def interval(values: list[float]) -> tuple[float | None, float | None]:
    """The 95 % t-interval of the mean, (None, None) for fewer than two values."""
    n = len(values)
    if n < 2:
        return None, None
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    mean = statistics.fmean(values)
    return mean - half, mean + half


def _all_of(*reasons: str | None) -> str:
    return "; ".join(dict.fromkeys(filter(None, reasons)))


SCALE = ("epochs", "pretrain_epochs", "layer_epochs", "iterations", "encoder_epochs", "pretrain_iterations", "channels")


@lru_cache
def _catalogued(experiment: str, method: str) -> list[Spec]:
    """The specs that the catalogue has for a method at the paper's scale: one, or one for each point of what is varied."""
    from .experiments import make_specs
    return make_specs(experiment, profile="paper", methods=[method])


def _kept(spec: Spec) -> dict:
    return {key: value for key, value in spec.params.items() if key not in SCALE}


def is_catalogued(spec: Spec) -> bool:
    """Whether a run's parameters are the catalogue's, or smaller ones in scale alone. A run with others of the user's own is
    no answer to a claim."""
    return any(_kept(spec) == _kept(full) for full in _catalogued(spec.experiment, spec.method))


def speaking(specs: Iterable[Spec]) -> set[str]:
    """Ids of the specs that the book's tables and verdicts rest on: catalogued ones, and of those with the same parameters
    the ones at the largest scale. So a trial at a smaller scale takes nothing from what is there, and no mean mixes scales."""
    groups: dict[tuple, list[Spec]] = {}
    for spec in specs:
        if is_catalogued(spec):
            groups.setdefault((spec.experiment, spec.method, json.dumps(_kept(spec), sort_keys=True)), []).append(spec)
    return {spec.id for found in groups.values() for spec in found if _scale(spec) == max(map(_scale, found))}


def _scale(spec: Spec) -> tuple[float, ...]:
    """The rows of a run and its epochs or iterations, to order runs of the same parameters by: rows first."""
    return (spec.n_samples or math.inf, *(spec.params.get(key, 0) for key in SCALE))


def runs_of(store: RecordStore, experiment: str, method: str | None = None) -> list[Record]:
    """The paper-profile runs that speak for a method of an experiment, or for all of its methods, by seed."""
    found = store.find(experiment=experiment, profile="paper", **({"method": method} if method else {}))
    ids = speaking(record.spec for record in found)
    return [record for record in found if record.spec.id in ids]


def shortfall(specs: list[Spec]) -> str:
    """In what specs fall short of the paper profile as catalogued, "" where in nothing."""
    found = []
    for spec in specs:
        full = _catalogued(spec.experiment, spec.method)[0]
        for key in SCALE:
            if spec.params.get(key, 0) < full.params.get(key, 0):
                found.append(f"{key.replace('_', ' ')} {spec.params[key]} of {full.params[key]}")
        if spec.n_samples != full.n_samples:
            found.append(f"{spec.n_samples} rows")
    return ", ".join(dict.fromkeys(found))
