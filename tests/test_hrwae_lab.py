"""HRWAE-GAN's statements on recorded runs: each is tried on figures by which it holds, and on others by which it does not."""

from types import SimpleNamespace

import pytest

from genclust.lab.claims import answer, f_test
from genclust.lab.experiments import make_specs
from genclust.lab.papers import hrwae_gan
from genclust.lab.records import Provenance, Record
from genclust.lab.tables import opened

TOTAL = hrwae_gan.TOTAL
CALM, WILD = [0.5, 0.6], [0.5, hrwae_gan.DRIFT_LIMIT + 1]


def runs(**methods):
    """Runs by method, each from one list a metric; underscores of a method's name stand for hyphens."""
    found = {}
    for name, metrics in methods.items():
        objectives = metrics.pop("objective", [0.0] * len(next(iter(metrics.values()))))
        found[name.replace("_", "-")] = [SimpleNamespace(objective=o, metrics={k: v[i] for k, v in metrics.items()})
                                         for i, o in enumerate(objectives)]
    return found


def redraws(**methods):
    return runs(**{name: {f"redraw_g{i}": [v - 0.1, v + 0.1] for i, v in enumerate(values)} for name, values in methods.items()})


def drifts(**methods):
    return runs(**{name: {"drift": values} for name, values in methods.items()})


def totals(one, top, lower):
    return runs(hrwae_l1={f"g0_{TOTAL}": one}, hrwae_l2={f"g0_{TOTAL}": top, f"g1_{TOTAL}": lower})


def groups(**methods):
    return runs(**{name: {f"g{i}_accuracy_gmm": [v, v] for i, v in enumerate(values)} for name, values in methods.items()})


def shelf(experiment, metric, **methods):
    """A store of paper-profile records by method, which differ in one metric."""
    bare = {name: False if f.annotation is bool else 0 if f.annotation in (int, float) else "" for name, f in Provenance.model_fields.items()}
    found = {m: [Record(spec=spec, metrics={metric: v} if v is not None else {}, objective=0.0, history=[], replay={}, provenance=bare)
                 for v, spec in zip(values, make_specs(f"hrwae-gan/{experiment}", profile="paper", methods=[m], seeds=range(len(values))))]
             for m, values in methods.items()}
    return SimpleNamespace(find=lambda method, **_: found.get(method, []))


EVEN, SPREAD = [0.50, 0.51, 0.50, 0.51], [0.2, 0.8, 0.3, 0.9]
CASES = {
    "no_advantage": (totals([0.6, 0.601], [0.5, 0.501], [0.601, 0.602]), totals([0.6, 0.61], [0.5, 0.51], [0.7, 0.71])),
    "g0_variance_alike": (totals(EVEN, EVEN, EVEN), totals(EVEN, SPREAD, EVEN)),
    "g1_variance_larger": (totals(EVEN, EVEN, SPREAD), totals(EVEN, SPREAD, SPREAD)),
    "best_in_g1": (totals([0.6, 0.6], [0.5, 0.5], [0.3, 0.7]), totals([0.6, 0.8], [0.5, 0.5], [0.3, 0.7])),
    "quality_unknown": (runs(hrwae_l2={f"g1_{TOTAL}": [0.1, 0.2, 0.3, 0.4], "objective": [4, 3, 2, 1]}),
                        runs(hrwae_l2={f"g1_{TOTAL}": [0.1, 0.2, 0.3, 0.4], "objective": [1, 2, 3, 4]})),
    "reconstruction_improves": tuple(runs(**{f"hrwae_l{n}": {"reconstruction_held_out": [v, v]} for n, v in enumerate(errors, 1)})
                                     for errors in ((9, 8, 7, 6), (9, 8, 8.5, 6))),
    "relativistic_stable": (drifts(hrwae_l1=CALM, hrwae_l1_standard=WILD), drifts(hrwae_l1=WILD, hrwae_l1_standard=WILD)),
    "smoothing_helps_in_part": (drifts(hrwae_l1_smoothed=WILD, hrwae_l1_standard=[9.0, 9.0]),
                                drifts(hrwae_l1_smoothed=CALM, hrwae_l1_standard=WILD)),
    "vae_steadier": (drifts(beta_vae=CALM, hrwae_l1_standard=WILD), drifts(beta_vae=WILD, hrwae_l1_standard=WILD)),
    "reconstruction_tells_quality": tuple(
        runs(**{f"hrwae_l{n}": {"reconstruction_held_out": [9 - n, 8.5 - n], f"g0_{TOTAL}": [sign * n, sign * (n + 0.5)]} for n in (1, 2, 3, 4)})
        for sign in (1, -1)),
    "groups_destabilise": (drifts(hrwae_l1=CALM, hrwae_l2=CALM, hrwae_l3=WILD, hrwae_l4=[9.0, 9.0]),
                           drifts(hrwae_l1=CALM, hrwae_l2=WILD, hrwae_l3=CALM, hrwae_l4=WILD)),
    "extra_layers_destabilise": (drifts(hrwae_l2=CALM, hrwae_l2_extra_layers=[9.0, 9.0]), drifts(hrwae_l2=CALM, hrwae_l2_extra_layers=CALM)),
    "some_groups_idle": (groups(hrwae_l3_no_intermediate=(0.6, 0.5, 0.2)), groups(hrwae_l3_no_intermediate=(0.6, 0.5, 0.4))),
    "matching_uses_groups": (groups(hrwae_l3=(0.6, 0.5, 0.4), hrwae_l3_no_intermediate=(0.6, 0.5, 0.2)),
                             groups(hrwae_l3=(0.6, 0.5, 0.2), hrwae_l3_no_intermediate=(0.6, 0.5, 0.1))),
    "pixels_fail": tuple(runs(hrwae_l1={"hdbscan_on_umap": [a], "hdbscan_on_pixels": [0.4]}, hrwae_l2={"hdbscan_on_umap": [b], "hdbscan_on_pixels": [0.4]})
                         for a, b in ((0.6, 0.61), (0.2, 0.21))),
    "divisor_best": tuple(runs(hrwae_l2={f"accuracy_divisor_{d}": [v, v + 0.01] for d, v in zip(hrwae_gan.DIVISORS, values)})
                          for values in ((0.4, 0.5, 0.6, 0.5, 0.4), (0.4, 0.7, 0.6, 0.5, 0.4))),
    "image_quality_varies": tuple(runs(hrwae_l2={"fid_classifier": v}) for v in ([10.0, 14.0], [10.0, 10.1])),
    "levels_by_frequency": tuple(redraws(hrwae_l2=(1.0, 2.0), hrwae_l3=(1.0, 2.0, 3.0), hrwae_l4=bottom) for bottom in ((1.0, 2.0, 3.0, 4.0), (1.0, 3.0, 2.0, 4.0))),
    "umap_varies_little": tuple(runs(n2d={"accuracy": v}) for v in ([0.97, 0.98, 0.97], [0.97, 0.80, 0.97])),
}


def test_an_instance_that_broke_off_is_unstable_however_near_the_prior_it_was():
    broken = {f"hrwae-l{n}": [SimpleNamespace(objective=0.0, metrics={"drift": d, **({"diverged": 3} if own else {})}) for d, own in zip(CALM, (n == 4, False))]
              for n in (1, 2, 3, 4)}
    broken["hrwae-l4"][0].metrics["drift"] = None  # it was too far off to be measured
    holds, said = hrwae_gan.groups_destabilise(broken)
    assert holds and said.endswith("HRWAE-GAN, L = 3: 0.50, 0.60; HRWAE-GAN, L = 4: broke off, 0.60 (unstable above 1)")


@pytest.mark.parametrize("usual, holds", [
    (dict(hrwae_l1_adam=CALM, hrwae_l1_standard_adam=WILD), True),
    (dict(hrwae_l1_adam=WILD, hrwae_l1_standard_adam=WILD), False),
])
def test_a_discriminator_is_judged_under_both_settings_of_adam(usual, holds):
    found, said = hrwae_gan.relativistic_stable(drifts(hrwae_l1=CALM, hrwae_l1_standard=CALM, **usual))
    assert bool(found) is holds and "standard, usual Adam" in said


@pytest.mark.parametrize("usual", [dict(hrwae_l1_standard_adam=WILD), dict(hrwae_l1_adam=CALM[:1], hrwae_l1_standard_adam=WILD), {}])
def test_settings_that_one_kind_alone_was_run_with_are_no_evidence(usual):
    with pytest.raises(LookupError, match="no instance is unstable with the standard discriminator") as given:
        hrwae_gan.relativistic_stable(drifts(hrwae_l1=CALM, hrwae_l1_standard=CALM, **usual))
    assert "usual Adam" not in str(given.value)


def test_where_the_standard_discriminator_is_stable_the_relativistic_one_mends_nothing():
    with pytest.raises(LookupError, match="no instance is unstable with the standard discriminator; .*L = 1, usual Adam: 0.50, 2.00"):
        hrwae_gan.relativistic_stable(drifts(hrwae_l1=CALM, hrwae_l1_standard=CALM, hrwae_l1_adam=WILD, hrwae_l1_standard_adam=CALM))


@pytest.mark.parametrize("check, there, why", [
    ("vae_steadier", dict(beta_vae=CALM, hrwae_l1_standard=CALM), "no instance of either is unstable"),
    ("extra_layers_destabilise", dict(hrwae_l2=CALM, hrwae_l2_extra_layers=WILD), "not all"),
])
def test_shares_that_say_neither_decide_nothing(check, there, why):
    with pytest.raises(LookupError, match=why):
        getattr(hrwae_gan, check)(drifts(**there))


def test_layers_that_cost_no_stability_are_not_too_unstable():
    assert not hrwae_gan.extra_layers_destabilise(drifts(hrwae_l2=WILD, hrwae_l2_extra_layers=WILD))[0]


def test_smoothing_is_compared_setting_by_setting():
    worse = drifts(hrwae_l1_smoothed=[0.1] * 8, hrwae_l1_smoothed_adam=[9.0, 9.0], hrwae_l1_standard=[0.1, 0.1], hrwae_l1_standard_adam=[9.0, 9.0, 9.0, 0.1])
    assert not hrwae_gan.smoothing_helps_in_part(worse)[0]  # of all runs in one heap fewer are unstable with it
    with pytest.raises(LookupError, match="no instance is unstable without smoothing"):
        hrwae_gan.smoothing_helps_in_part(drifts(hrwae_l1_smoothed=WILD, hrwae_l1_standard=CALM))


def test_every_statement_is_tried():
    assert set(CASES) == {f.__name__ for f in hrwae_gan.COMPARISONS}


@pytest.mark.parametrize("check", CASES)
def test_a_statement_holds_and_fails(check):
    for asked, there in zip((True, False), CASES[check]):
        holds, said = getattr(hrwae_gan, check)(there)
        assert bool(holds) is asked and said


@pytest.mark.parametrize("check", ["relativistic_stable", "smoothing_helps_in_part", "vae_steadier", "groups_destabilise", "extra_layers_destabilise"])
def test_a_share_of_instances_needs_two(check):
    one = {m: own[:1] for m, own in CASES[check][0].items()}
    with pytest.raises(LookupError, match="1 of at least 2 runs"):
        getattr(hrwae_gan, check)(one)


@pytest.mark.parametrize("check", sorted(CASES))
def test_a_statement_without_runs_says_what_it_lacks(check):
    with pytest.raises(LookupError):
        getattr(hrwae_gan, check)({m: [] for m in hrwae_gan.METHODS} | {"n2d": []})


def test_an_idle_group_is_looked_for_with_every_start_that_has_two_runs():
    idle, busy = (0.6, 0.5, 0.2), (0.6, 0.5, 0.4)
    there = groups(hrwae_l3=busy, hrwae_l3_no_intermediate=busy, hrwae_l3_prior=busy, hrwae_l3_prior_no_intermediate=idle)
    with pytest.raises(LookupError, match="with one start and none with the other"):
        hrwae_gan.some_groups_idle(there)
    assert hrwae_gan.matching_uses_groups(there)[0]  # where a group idles, the loss mends it
    assert not hrwae_gan.matching_uses_groups(there | groups(hrwae_l3_prior=idle))[0]
    single = there | {"hrwae-l3-prior-no-intermediate": there["hrwae-l3-prior-no-intermediate"][:1]}
    assert hrwae_gan.some_groups_idle(single) == (False, "accuracy (%) by group: L = 3, no intermediate loss: 60.0, 50.0, 40.0")
    with pytest.raises(LookupError, match="no group idles"):
        hrwae_gan.matching_uses_groups(single)


def test_levels_are_asked_of_every_number_of_groups_and_of_what_starts_at_the_priors():
    rising = redraws(hrwae_l2=(1.0, 2.0), hrwae_l3=(1.0, 2.0, 3.0), hrwae_l4=(1.0, 2.0, 3.0, 4.0))
    falls = redraws(hrwae_l4_even=(1.0, 3.0, 2.0, 4.0))
    assert hrwae_gan.levels_by_frequency(rising)[0] and not hrwae_gan.levels_by_frequency(rising | falls)[0]
    assert hrwae_gan.levels_by_frequency(rising | {m: own[:1] for m, own in falls.items()})[0]  # one run has no mean
    for alike in (dict(hrwae_l2=(2.0, 2.0)), dict(hrwae_l3=(3.0, 2.0, 4.0))):
        assert not hrwae_gan.levels_by_frequency(rising | redraws(**alike))[0]


def test_every_group_has_to_gain_by_the_intermediate_loss():
    assert not hrwae_gan.matching_uses_groups(groups(hrwae_l3=(0.3, 0.25, 0.2), hrwae_l3_no_intermediate=(0.6, 0.5, 0.25)))[0]


def test_where_no_group_idles_the_intermediate_loss_mends_nothing():
    with pytest.raises(LookupError, match="no group idles without the intermediate loss; accuracy"):
        hrwae_gan.matching_uses_groups(groups(hrwae_l3=(0.6, 0.5, 0.4), hrwae_l3_no_intermediate=(0.6, 0.5, 0.35)))


UNDECIDED = {
    "no_advantage": totals([0.60, 0.66], [0.5, 0.51], [0.59, 0.66]),  # the means are alike, and the runs too far apart to say so
    "reconstruction_improves": runs(**{f"hrwae_l{n}": {"reconstruction_held_out": [v - 1, v + 1]} for n, v in enumerate((40, 30, 20, 19.5), 1)}),
    "divisor_best": runs(hrwae_l2={f"accuracy_divisor_{d}": [v - 0.02, v + 0.02] for d, v in zip(hrwae_gan.DIVISORS, (0.4, 0.45, 0.46, 0.45, 0.4))}),
    "pixels_fail": runs(hrwae_l2={"hdbscan_on_umap": [0.2, 0.6], "hdbscan_on_pixels": [0.3, 0.3]}),
}


@pytest.mark.parametrize("check", UNDECIDED)
def test_what_may_be_chance_is_not_decided(check):
    with pytest.raises(LookupError, match="Welch"):
        getattr(hrwae_gan, check)(UNDECIDED[check])


@pytest.mark.parametrize("check", ["no_advantage", "best_in_g1", "reconstruction_improves", "some_groups_idle", "matching_uses_groups",
                                   "groups_destabilise", "pixels_fail", "divisor_best", "levels_by_frequency"])
def test_single_runs_compare_nothing(check):
    with pytest.raises(LookupError, match="1 of at least 2 runs"):
        getattr(hrwae_gan, check)({m: own[:1] for m, own in list(CASES[check][0].items())[-1 if check == "pixels_fail" else 0:]})


ORDERS = {"hrwae-gan/figure5/blurred": ("fashion_mnist", "sharpness", "hrwae-l2", "hrwae-l1"),
          "hrwae-gan/section3.1.1/wae-gan-reconstruction": ("ablations", "reconstruction_held_out", "hrwae-l1-standard", "beta-vae"),
          "hrwae-gan/section3.3.3/noise-attention": ("ablations", "g0_share_labelled", "hrwae-l2", "hrwae-l2-no-attention")}


@pytest.mark.parametrize("id", ORDERS)
def test_which_of_two_is_better_is_an_order(id):
    """Two runs of each, which Welch's test tells apart, then one of each, which say nothing."""
    experiment, metric, method, against = ORDERS[id]
    claim = opened("hrwae-gan")[1][id]
    high, low = [0.9, 0.91], [0.7, 0.71]
    for values, verdict in (((high, low), "reproduced"), ((low, high), "not reproduced"), ((high[:1], low[:1]), "not run")):
        values = values[::-1] if claim.better == "lower" else values
        found = answer(claim, shelf(experiment, metric, **{method: values[0], against: values[1]}))
        assert found.verdict == verdict
        if verdict == "reproduced":
            assert found.reason.startswith("90.50 against 70.50" if claim.unit is None else "0.705 against 0.905")


def test_the_f_test_counts_degrees_of_freedom():
    """With two of them on either side the distribution function is elementary: p = 1 / (1 + ratio)."""
    assert f_test([0.0, 3.0, 6.0], [0.0, 1.0, 2.0]) == pytest.approx(1 / 10)
