"""HRWAE-GAN's statements on recorded runs: each is tried on figures by which it holds, and on others by which it does not."""

from types import SimpleNamespace

import pytest

from genclust.lab.papers import hrwae_gan

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


def drifts(**methods):
    return runs(**{name: {"drift": values} for name, values in methods.items()})


def totals(one, top, lower):
    return runs(hrwae_l1={f"g0_{TOTAL}": one}, hrwae_l2={f"g0_{TOTAL}": top, f"g1_{TOTAL}": lower})


def groups(**methods):
    return runs(**{name: {f"g{i}_accuracy_gmm": [v] for i, v in enumerate(values)} for name, values in methods.items()})


EVEN, SPREAD = [0.50, 0.51, 0.50, 0.51], [0.2, 0.8, 0.3, 0.9]
CASES = {
    "no_advantage": (totals([0.6], [0.5], [0.4]), totals([0.6], [0.5], [0.7])),
    "g0_variance_alike": (totals(EVEN, EVEN, EVEN), totals(EVEN, SPREAD, EVEN)),
    "g1_variance_larger": (totals(EVEN, EVEN, SPREAD), totals(EVEN, SPREAD, SPREAD)),
    "best_in_g1": (totals([0.6], [0.5, 0.5], [0.3, 0.7]), totals([0.6, 0.8], [0.5, 0.5], [0.3, 0.7])),
    "quality_unknown": (runs(hrwae_l2={f"g1_{TOTAL}": [0.1, 0.2, 0.3, 0.4], "objective": [4, 3, 2, 1]}),
                        runs(hrwae_l2={f"g1_{TOTAL}": [0.1, 0.2, 0.3, 0.4], "objective": [1, 2, 3, 4]})),
    "reconstruction_improves": tuple(runs(**{f"hrwae_l{n}": {"reconstruction_held_out": [v]} for n, v in enumerate(errors, 1)})
                                     for errors in ((9, 8, 7, 6), (9, 8, 8, 6))),
    "generated_blurred": tuple(runs(hrwae_l1={"sharpness": [a]}, hrwae_l2={"sharpness": [b]}) for a, b in ((2, 1), (1, 2))),
    "relativistic_stable": (drifts(hrwae_l1=CALM, hrwae_l1_standard=WILD), drifts(hrwae_l1=WILD, hrwae_l1_standard=WILD)),
    "smoothing_helps_in_part": (drifts(hrwae_l1_smoothed=WILD, hrwae_l1_standard=[9.0, 9.0]),
                                drifts(hrwae_l1_smoothed=CALM, hrwae_l1_standard=WILD)),
    "vae_steadier": (drifts(beta_vae=CALM, hrwae_l1_standard=WILD), drifts(beta_vae=CALM, hrwae_l1_standard=CALM)),
    "wae_reconstructs_better": tuple(runs(hrwae_l1_standard={"reconstruction_held_out": [a]}, beta_vae={"reconstruction_held_out": [b]})
                                     for a, b in ((1, 2), (2, 1))),
    "reconstruction_tells_quality": tuple(
        runs(**{f"hrwae_l{n}": {"reconstruction_held_out": [9 - n, 8.5 - n], f"g0_{TOTAL}": [sign * n, sign * (n + 0.5)]} for n in (1, 2, 3, 4)})
        for sign in (1, -1)),
    "groups_destabilise": (drifts(hrwae_l1=CALM, hrwae_l2=CALM, hrwae_l3=WILD, hrwae_l4=[9.0, 9.0]),
                           drifts(hrwae_l1=CALM, hrwae_l2=WILD, hrwae_l3=CALM, hrwae_l4=WILD)),
    "two_groups_destabilise": (drifts(hrwae_l1=CALM, hrwae_l2=WILD), drifts(hrwae_l1=CALM, hrwae_l2=CALM)),
    "extra_layers_destabilise": (drifts(hrwae_l2=CALM, hrwae_l2_extra_layers=[9.0, 9.0]), drifts(hrwae_l2=CALM, hrwae_l2_extra_layers=WILD)),
    "some_groups_idle": (groups(hrwae_l3_no_intermediate=(0.6, 0.5, 0.2)), groups(hrwae_l3_no_intermediate=(0.6, 0.5, 0.4))),
    "matching_uses_groups": (groups(hrwae_l3=(0.6, 0.5, 0.4), hrwae_l3_no_intermediate=(0.6, 0.5, 0.2)),
                             groups(hrwae_l3=(0.6, 0.5, 0.2), hrwae_l3_no_intermediate=(0.6, 0.5, 0.1))),
    "attention_lowers_noise": tuple(runs(hrwae_l2={"g0_share_labelled": [a]}, hrwae_l2_no_attention={"g0_share_labelled": [b]})
                                    for a, b in ((0.9, 0.8), (0.8, 0.9))),
    "umap_helps": tuple(runs(hrwae_l1={"hdbscan_on_umap": [a], "hdbscan_on_codes": [b]}) for a, b in ((0.6, 0.4), (0.4, 0.6))),
    "pixels_fail": tuple(runs(hrwae_l1={"hdbscan_on_umap": [a], "hdbscan_on_pixels": [b]}) for a, b in ((0.6, 0.4), (0.4, 0.6))),
    "divisor_best": tuple(runs(hrwae_l2={f"accuracy_divisor_{d}": [v, v + 0.01] for d, v in zip(hrwae_gan.DIVISORS, values)})
                          for values in ((0.4, 0.5, 0.6, 0.5, 0.4), (0.4, 0.7, 0.6, 0.5, 0.4))),
    "image_quality_varies": tuple(runs(hrwae_l2={"fid_classifier": v}) for v in ([10.0, 14.0], [10.0, 10.1])),
    "umap_varies_little": tuple(runs(n2d={"accuracy": v}) for v in ([0.97, 0.98, 0.97], [0.97, 0.80, 0.97])),
}


def test_every_statement_is_tried():
    assert set(CASES) == {f.__name__ for f in hrwae_gan.COMPARISONS}


@pytest.mark.parametrize("check", CASES)
def test_a_statement_holds_and_fails(check):
    for asked, there in zip((True, False), CASES[check]):
        holds, said = getattr(hrwae_gan, check)(there)
        assert bool(holds) is asked and said


@pytest.mark.parametrize("check", ["relativistic_stable", "smoothing_helps_in_part", "vae_steadier", "two_groups_destabilise", "extra_layers_destabilise"])
def test_a_share_of_instances_needs_two(check):
    one = {m: own[:1] for m, own in CASES[check][0].items()}
    with pytest.raises(LookupError, match="1 of at least 2 runs"):
        getattr(hrwae_gan, check)(one)


@pytest.mark.parametrize("check", sorted(CASES))
def test_a_statement_without_runs_says_what_it_lacks(check):
    with pytest.raises(LookupError):
        getattr(hrwae_gan, check)({m: [] for m in hrwae_gan.METHODS} | {"n2d": []})


def test_every_group_has_to_gain_by_the_intermediate_loss():
    assert not hrwae_gan.matching_uses_groups(groups(hrwae_l3=(0.6, 0.5, 0.4), hrwae_l3_no_intermediate=(0.6, 0.5, 0.5)))[0]


def test_the_f_test_counts_degrees_of_freedom():
    """With two of them on either side the distribution function is elementary: p = 1 / (1 + ratio)."""
    assert hrwae_gan._f_test([0.0, 3.0, 6.0], [0.0, 1.0, 2.0]) == pytest.approx(1 / 10)
