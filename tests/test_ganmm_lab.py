"""GANMM's part of the lab: exact epsilon-EM, what runs are measured by, and records that are made and replayed."""

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.mixture import GaussianMixture
from sklearn.utils.estimator_checks import check_estimator

from genclust import GANMM
from genclust.datasets import Dataset, load
from genclust.lab import replay
from genclust.lab.chapters import check_parameters, live_specs
from genclust.lab.claims import read_ledger, runs_of, shortfall
from genclust.lab.epsilon_em import epsilon_em, memorising_em, mixed
from genclust.lab.experiments import make_specs
from genclust.lab.papers import METHODS, ganmm
from genclust.lab.records import RecordStore
from genclust.lab.runner import execute

# -- exact epsilon-EM --------------------------------------------------------------------------


def test_without_an_epsilon_it_is_em():
    x, means = ganmm._mixture()
    steps = epsilon_em(x, means, lambda t, posterior: posterior, 200)
    first = np.log(0.5 * norm.pdf(x, -0.5) + 0.5 * norm.pdf(x, 1)).sum()
    assert steps[0].likelihood == pytest.approx(first) and max(s.epsilon for s in steps) < 1e-9
    gains = np.diff([s.likelihood for s in steps])
    assert gains.min() > -1e-9 and gains.max() > 1
    em = GaussianMixture(2, covariance_type="spherical", precisions_init=[1, 1], means_init=means[:, None], random_state=0).fit(x[:, None])
    assert abs(steps[-1].likelihood - len(x) * em.lower_bound_) < 2  # variances of 1 against fitted ones


def test_epsilon_is_the_divergence_and_closes_the_gap():
    rng = np.random.default_rng(0)
    x, means = ganmm._mixture()
    q = rng.dirichlet([1, 1], len(x))
    (step,) = epsilon_em(x, means, lambda t, posterior: q, 1)
    p = norm.pdf(x[:, None], means)
    p /= p.sum(1, keepdims=True)
    assert step.epsilon == pytest.approx((q * np.log(q / p)).sum())
    assert step.likelihood == pytest.approx(step.bound + step.epsilon, rel=1e-12)


def test_a_share_of_noise_is_mixed_into_the_posterior():
    posterior = np.tile([1.0, 0.0], (5, 1))
    step = mixed(lambda t: [0.0, 1.0, 0.5][t], 5, 2)
    assert np.array_equal(step(0, posterior), posterior)
    assert step(2, posterior) == pytest.approx((posterior + step(1, posterior)) / 2)


def test_the_better_components_remember_the_less_moves():
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(90, 2)), np.arange(90) % 3
    assert memorising_em(X, labels, 1e-3, 2) == [0, 0]
    assert memorising_em(X, labels, 0.5, 1)[0] > 0.1
    assert memorising_em(X, np.r_[np.zeros(89, int), 2], 0.5, 1)[0] <= 1 / 90  # cluster 1 has no rows: nothing goes there


# -- what runs are measured by -----------------------------------------------------------------


def stub(predict, n_clusters=3, proba=None):
    proba = proba or (lambda X: np.eye(n_clusters)[predict(X)])
    return SimpleNamespace(n_clusters=n_clusters, predict=predict, predict_proba=proba)


def test_lost_classes_and_empty_clusters_are_counted():
    data = load("digits")
    data = Dataset(**vars(data) | {"y": np.minimum(data.y, 2)})  # classes 0, 1 and the rest
    found = ganmm.measure(stub(lambda X: (np.arange(len(X)) % 2) * 3, 5), data)
    assert found["empty_clusters"] == 3 and found["lost_classes"] == 2  # both clusters are mostly of the rest
    assert found["lowest_purity"] <= found["highest_purity"] < 0.9 and "purity_whole" not in found


def test_a_fit_on_a_part_is_scored_on_all():
    part = load("digits", n_samples=200)
    found = ganmm.measure(stub(lambda X: (X[:, 36] > 0.5).astype(int)), part)
    whole = load("digits")
    expected = ganmm.scores(whole.y, (whole.X[:, 36] > 0.5).astype(int))
    assert {k: found[f"{k}_whole"] for k in ("purity", "ari", "nmi_geometric")} == {k: expected[k] for k in ("purity", "ari", "nmi_geometric")}


def test_draws_are_judged_by_a_classifier(monkeypatch):
    """Draws of cluster k hold a digit and how sure the classifier will be of it; cluster 1 draws fours and nines in turn."""
    def sample(n, cluster, random_state):
        digit = {0: np.zeros(n), 1: np.where(np.arange(n) % 2, 4, 9), 2: np.full(n, 2)}[cluster]
        return np.c_[digit, np.full(n, [0.9, 0.8, 0.4][cluster])], None

    def probabilities(dataset, rows):
        p = np.tile((1 - rows[:, 1:]) / 9, (1, 10))
        p[np.arange(len(rows)), rows[:, 0].astype(int)] = rows[:, 1]
        return p

    monkeypatch.setattr("genclust.lab.fid.class_probabilities", probabilities)
    found = ganmm.drawn(SimpleNamespace(sample=sample), "digits", {0: (0, 500), 1: (4, 300), 2: (2, 10)})
    assert found == pytest.approx({"draws_certainty": 0.7, "draws_certainty_by_size": 1.0, "draws_nine": 0.5})
    alone = ganmm.drawn(SimpleNamespace(sample=sample), "digits", {0: (0, 500), 2: (2, 500)})
    assert alone == pytest.approx({"draws_certainty": 0.65})  # no 4 or 7, and no order of sizes


def test_statements_about_draws():
    def runs(method, **metrics):
        return {method: [SimpleNamespace(metrics=metrics)]}
    both = runs("ganmm", draws_certainty=0.8, draws_nine=0.2) | runs("ganmm-em", draws_certainty=0.5, draws_certainty_by_size=0.4)
    assert ganmm.surer_draws(both)[0] and ganmm.nines_among_4_and_7(both)[0] and ganmm.small_clusters_draw_worse(both)[0]
    other = runs("ganmm", draws_certainty=0.5, draws_nine=0.01) | runs("ganmm-em", draws_certainty=0.6, draws_certainty_by_size=-0.1)
    assert not any(check(other)[0] for check in (ganmm.surer_draws, ganmm.nines_among_4_and_7, ganmm.small_clusters_draw_worse))
    with pytest.raises(LookupError, match="GANMM: 0 of at least 1 run"):
        ganmm.nines_among_4_and_7(runs("ganmm", draws_certainty=0.8))


def test_statements_about_less_data():
    """Scores on all of MNIST: of a run on all of it its own, of one on a part those on the whole."""
    def runs(**means):
        return {(f"ganmm/mnist_train{share}", m): [SimpleNamespace(metrics={"purity": v} if not share else {"purity": 0.99, "purity_whole": v})]
                for m, values in means.items() for share, v in zip(("", "-50", "-10"), values)}
    others = {"gmm-raw": (0.5, 0.5, 0.5), "dec-raw": (0.4, 0.5, 0.39), "ganmm-em": (0.3, 0.2, 0.28)}
    falling = runs(ganmm=(0.6, 0.55, 0.5), **others)
    assert ganmm.purity_falls(falling) == (True, "means of the runs on all, half and a tenth: 0.600, 0.550, 0.500")
    holds, said = ganmm.purity_of_others_steady(falling)
    assert holds and said.startswith("change from all to a tenth: GANMM 0.100, GMM 0.000")
    assert not ganmm.purity_falls(runs(ganmm=(0.6, 0.5, 0.55)))[0]
    assert not ganmm.purity_of_others_steady(runs(ganmm=(0.6, 0.55, 0.59), **others))[0]
    with pytest.raises(LookupError, match="GANMM of ganmm/mnist_train-50: 0 of at least 1 run"):
        ganmm.purity_falls({k: v for k, v in falling.items() if "-50" not in k[0]})


@pytest.mark.parametrize("right, low, high", [(True, 0.0, 0.2), (False, 1.0, 5.0)])
def test_epsilon_is_small_where_the_classifier_agrees_with_the_generators(right, low, high):
    """Generators that draw three far blobs, and a classifier that is right about them or takes one for another."""
    centres = 10 * np.eye(3)
    X = np.repeat(centres, 50, 0) + np.random.default_rng(0).normal(size=(150, 3))

    def sample(n, cluster, random_state):
        return centres[cluster] + np.random.default_rng(random_state).normal(size=(n, 3)), None

    labels = X.argmax(1)
    q = np.eye(3)[labels if right else (labels + 1) % 3] * 0.97 + 0.01
    deep = SimpleNamespace(n_clusters=3, labels_=labels, sample=sample, predict_proba=lambda rows: q[(X[:, None] == rows).all(2).argmax(0)])
    assert low <= ganmm.epsilon(deep, X, 0) <= high


def record(**curves):
    return SimpleNamespace(curve=lambda phase, name: (range(len(curves[name])), curves[name]), spec=SimpleNamespace(params={"n_clusters": 3}))


def test_clusters_are_balanced_between_the_sizes_of_the_text():
    assert ganmm.balanced(record(), {"labels": np.repeat([0, 1, 2], [15, 15, 14])}, None)[0] is False  # a third is large
    shares = SimpleNamespace(spec=SimpleNamespace(params={"n_clusters": 10}))
    assert ganmm.balanced(shares, {"labels": np.arange(1000) % 10}, None)[0] is True
    assert ganmm.balanced(shares, {"labels": np.arange(1000) % 9}, None)[0] is False  # one is empty
    assert ganmm.unbalanced(shares, {"labels": np.repeat(range(10), [300, *[87] * 8, 4])}, None)[0] is True
    assert ganmm.unbalanced(shares, {"labels": np.repeat(range(10), [300, *[78] * 8, 76])}, None)[0] is False  # none is small


def test_ganmm_has_to_be_purer_than_each_of_the_others():
    def runs(**purities):
        return {m: [SimpleNamespace(metrics={"mean_purity": p}) for p in ps] for m, ps in purities.items()}
    given = runs(ganmm=[0.6, 0.8]) | runs(**{"gmm-raw": [0.5], "dec-raw": [0.69], "ganmm-em": [0.1]})
    assert ganmm.purer_clusters(given)[0]
    assert not ganmm.purer_clusters(given | runs(**{"dec-raw": [0.69, 0.72]}))[0]
    with pytest.raises(LookupError, match=r"GANMM\(EM\): 0 of at least 1 run"):
        ganmm.purer_clusters(given | {"ganmm-em": []})


def test_epsilons_level_off_where_the_second_half_adds_little():
    assert ganmm.epsilons_level_off(record(epsilon=[1, 0.5, 0.02, 0.01]), {}, None)[0]
    assert not ganmm.epsilons_level_off(record(epsilon=[1, 1, 1, 1]), {}, None)[0]


UNAIDED = "GANMM, nothing borrowed and unequal draws"


def test_balance_with_and_without_the_remedy():
    runs = {"ganmm": [record(balance=[0.9, 0.96]), record(balance=[0.91, 0.97])],
            "ganmm-unaided": [record(balance=[0.7, 0.3]), record(balance=[0.65, 0.35])]}
    assert ganmm.remedy_balances(runs)[0] and ganmm.imbalance_grows(runs)[0]
    swapped = {"ganmm": runs["ganmm-unaided"], "ganmm-unaided": runs["ganmm"]}
    assert not ganmm.remedy_balances(swapped)[0] and not ganmm.imbalance_grows(swapped)[0]
    passing = [record(balance=[0.7, 0.3, 0.8])] * 2  # it is the end that counts
    assert not ganmm.imbalance_grows({"ganmm-unaided": passing})[0]
    with pytest.raises(LookupError, match=f"{UNAIDED}: 1 of at least 2 runs"):
        ganmm.imbalance_grows({"ganmm-unaided": runs["ganmm-unaided"][:1]})


def test_an_imbalance_that_is_total_from_the_first_cannot_grow():
    """A run whose rows are all in one cluster speaks neither for nor against it, and what Welch's test can't tell is not decided."""
    total, falling = record(balance=[0.0, 0.0]), [record(balance=[0.7, 0.3]), record(balance=[0.65, 0.35])]
    holds, said = ganmm.imbalance_grows({"ganmm-unaided": [*falling, total, total]})
    assert holds and "mean of the 2 of 4 runs" in said and "0.675 then, 0.325 at the end" in said
    with pytest.raises(LookupError, match="1 of 2 runs have more than one cluster"):
        ganmm.imbalance_grows({"ganmm-unaided": [falling[0], total]})
    with pytest.raises(LookupError, match="not decided, Welch p"):
        ganmm.imbalance_grows({"ganmm-unaided": [record(balance=[0.2, 0.23]), record(balance=[0.33, 0.32]), total]})


def test_clusters_are_unequal_at_first_where_one_is_empty_and_one_large():
    """Of three clusters a large one has more than two thirds. What comes later is another statement."""
    unequal, large, empty, later = (record(empty=e, largest=share) for e, share in (
        ([1, 0], [0.7, 0.4]), ([0, 1], [0.9, 0.9]), ([1, 1], [0.6, 0.9]), ([0, 2], [0.4, 1.0])))
    holds, said = ganmm.imbalanced_at_first({"ganmm-unaided": [unequal, unequal, later]})
    assert holds and said.startswith("after the first hundred iterations, in 3 runs of 3 clusters: 1, 1, 0 are empty, and the largest holds 70, 70, 40 %")
    for found in ([unequal, later], [large] * 3, [empty] * 3, [later] * 3):
        assert not ganmm.imbalanced_at_first({"ganmm-unaided": found})[0]
    with pytest.raises(LookupError, match=f"{UNAIDED}: 1 of at least 2 runs"):
        ganmm.imbalanced_at_first({"ganmm-unaided": [unequal]})


def test_em_stands_still_where_no_row_moves_after_the_first_assignment():
    """The first entry is the way from the random partition; a run that comes to rest in the end has not done so at once."""
    still, late, never = ([record(moved=moved)] * 2 for moved in ([0.8, 0.004, 0.0], [0.8, 0.3, 0.0], [0.8, 0.3, 0.4]))

    def judged(segmentation, characters):
        return ganmm.em_stands_still({("ganmm/image_segmentation", "ganmm-em"): segmentation, ("ganmm/artificial_characters", "ganmm-em"): characters})

    assert ganmm.STILL == GANMM().tol and judged(still, still)[0] and judged(still * 2, never)[0]
    assert not judged(late, late)[0] and not judged(never, never)[0] and not judged(still, never)[0]
    assert "Image Segmentation 0.4 % in the second hundred iterations and 0.0 % in the last (2 runs), Artificial Characters 30.0 %" in judged(still, never)[1]
    with pytest.raises(LookupError, match=r"GANMM\(EM\) of ganmm/artificial_characters: 1 of at least 2 runs"):
        judged(still, never[:1])


@pytest.mark.parametrize("check, holds", [
    ("likelihood_gap", True), ("step_bound", True), ("sum_bound", True), ("summable_epsilons_converge", False),
    ("early_convergence", True), ("purity_range", True), ("ari_range", False), ("nmi_range", True)])
def test_statements_that_need_no_records(check, holds):
    found, said = getattr(ganmm, check)()
    assert found is holds and any(c.isdigit() for c in said)


# -- runs --------------------------------------------------------------------------------------


def smoke(experiment="ganmm/digits", method="ganmm", **overrides):
    return make_specs(experiment, profile="smoke", methods=[method], **overrides)[0]


def test_a_run_is_recorded_and_replays(tmp_path):
    store = RecordStore(tmp_path / "records")
    for method in ("ganmm", "ganmm-em"):
        made = execute(smoke(method=method), store, tmp_path / "work")
        assert {"moved", "balance", "largest", "empty", "sigma", "purity", "ari", "nmi_geometric"} <= made.history[-1].keys()
        assert ("epsilon" in made.history[-1]) == (method == "ganmm")
        assert made.metrics["purity"] == pytest.approx(made.history[-1]["purity"], rel=1e-6) and "lost_classes" in made.metrics
        arrays = store.arrays(made)
        assert arrays["draws"].shape == (10, 10, 64) and len(arrays["labels"]) == 1000
        assert set(made.replay) == {"pretrain", "ganmm"}
        assert not replay.gaps(made.replay, replay.prefix(made.spec, load("digits", n_samples=1000).X), "again")


def test_an_embedding_takes_the_cache_and_is_replayed_in_float32(tmp_path):
    spec = smoke("ganmm/mnist_embedded", "sae+ganmm")
    method, X = METHODS[spec.method], load("digits").X
    estimator = method.make(0, **spec.params | {"iterations": 1, "pretrain_iterations": 1})
    estimator.fit(X, **method.fit_options(cache=tmp_path, callback=None, checkpoint=None))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1  # the autoencoder's layers
    losses = replay.prefix(spec, X)
    assert set(losses) == {"pretrain", "ganmm", "objective"} and len(losses["pretrain"]) == 6
    assert not replay.gaps(losses, replay.prefix(spec, X), "again")


def test_a_run_killed_in_its_embedding_goes_on_there(tmp_path, save_always):
    """The autoencoder before GANMM takes most of a run's time: it has its own checkpoint, and is followed like the rest."""
    spec, seen = smoke("ganmm/mnist_embedded", "sae+ganmm", n_samples=500), []
    plan = METHODS[spec.method].planned_epochs(METHODS[spec.method].make(0, **spec.params))

    def killed(phase, epoch):
        if (phase, epoch) == ("autoencoder", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(spec, RecordStore(tmp_path / "records"), tmp_path / "work", progress=killed)
    again = execute(spec, RecordStore(tmp_path / "records"), tmp_path / "work", progress=lambda *at: seen.append(at))
    assert seen[0] == ("autoencoder", 2) and list(dict.fromkeys(phase for phase, _ in seen)) == ["autoencoder", "pretrain", "ganmm"]
    assert {phase for phase, _ in seen} < plan.keys() and list(plan)[-3:] == ["autoencoder", "pretrain", "ganmm"]
    assert not list((tmp_path / "work").glob("*.safetensors")) and again.provenance.resumed == 1
    whole = execute(spec, RecordStore(tmp_path / "whole"), tmp_path / "other")
    assert again.metrics == whole.metrics and again.objective == whole.objective


def test_what_falls_short_of_the_papers_scale_is_said():
    paper = make_specs("ganmm/mnist_train-10", profile="paper", methods=["ganmm"])[0]
    assert paper.n_samples == 6000 and shortfall([paper]) == ""  # a tenth of the rows is the paper's own setting
    less = make_specs("ganmm/mnist_train-10", profile="paper", methods=["ganmm"], channels=16, iterations=500)[0]
    assert shortfall([less]) == "iterations 500 of 4000, channels 16 of 64"


def test_claims_say_where_runs_were_cut_off():
    """A claim on GANMM's runs has the line on the cap if, and only if, most of the recorded runs of a method of it end there; where
    some do, it says how many."""
    root = Path(__file__).parents[1] / "book"
    store, told = RecordStore(root / "records"), 0
    rest = lru_cache(lambda experiment, method: [ganmm.at_rest(r) for r in runs_of(store, experiment, method)])
    for claim in read_ledger(root / "claims" / "ganmm.yml").claims:
        by = claim.answered_by
        if by is None or claim.kind == "property":
            continue
        found = [rest(by.experiment, m) for m in (by.method, by.against) if m and METHODS[m].module == "ganmm"]
        if all(found) and found:
            cut = any(2 * sum(each) < len(each) for each in found)
            assert cut == ("cut off at 4000 iterations" in (claim.reduced or "")), claim.id
            told += cut
            some = next((f"{each.count(False)} of the {len(each)} runs of GANMM were cut off" for each in found if not all(each)), "")
            assert cut or some in (claim.doubt or "") and bool(some) == ("cut off" in (claim.doubt or "")), claim.id
    assert told > 40 and any(rest("ganmm/image_segmentation", "ganmm"))


def test_claims_on_dec_on_raw_features_say_that_it_may_be_another():
    claims = read_ledger(Path(__file__).parents[1] / "book" / "claims" / "ganmm.yml").claims
    on_it = {c.id for c in claims if c.answered_by and "dec-raw" in (c.answered_by.method, c.answered_by.against)}
    assert len(on_it) > 25 and on_it == {c.id for c in claims if "here nothing is pretrained" in (c.doubt or "")}


def test_orders_are_in_the_unit_of_the_tables():
    """A score that the paper prints as a fraction is a fraction wherever it is compared."""
    claims = read_ledger(Path(__file__).parents[1] / "book" / "claims" / "ganmm.yml").claims
    assert {c.unit for c in claims if c.kind == "order"} == {"index"} == {c.unit for c in claims if c.spread is not None}


def test_a_run_is_at_rest_by_the_last_rows_of_its_history():
    spec = make_specs("ganmm/image_segmentation", profile="paper", methods=["ganmm"])[0]
    rows = [dict(phase="ganmm", sigma=0.04, moved=moved) for moved in (0.3, 0.001, 0.001, 0.001, 0.001, 0.004)]
    assert ganmm.at_rest(SimpleNamespace(spec=spec, history=rows))
    assert not ganmm.at_rest(SimpleNamespace(spec=spec, history=rows[:-1]))
    assert not ganmm.at_rest(SimpleNamespace(spec=spec, history=[row | {"sigma": 0.1} for row in rows]))


def test_letters_are_run_by_the_settings_of_table_5():
    letters, segments = (make_specs(f"ganmm/artificial_characters{tail}", profile="paper") for tail in ("_instances", ""))
    assert [(s.method, s.params) for s in letters] == [(s.method, s.params) for s in segments]
    assert {s.dataset for s in letters} == {"artificial_characters_instances"}


def test_the_chapters_epochs_are_iterations():
    params = check_parameters("ganmm", {"epochs": 50, "dataset": "digits", "n_clusters": 10})
    (spec,) = live_specs(params, ["ganmm"])
    assert spec.params["iterations"] == 50 and spec.params["n_clusters"] == 10 and spec.experiment == "ganmm/digits"
    (spec,) = live_specs(check_parameters("ganmm", {}), ["ganmm"])
    assert spec.params["iterations"] == 400 and spec.dataset == "image_segmentation"


# -- scikit-learn ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks():
    model = GANMM(2, iterations=2, pretrain_iterations=1, hidden=4, noise_dim=2, batch_size=16, n_critic=1, random_state=0, device="cpu")
    results = check_estimator(model, on_fail=None, on_skip=None)
    failed = {r["check_name"]: repr(r["exception"]) for r in results if r["status"] != "passed"
              and (r["check_name"], r["status"]) != ("check_array_api_input", "skipped")}  # unless SCIPY_ARRAY_API is set
    assert len(results) > 40 and failed == {}
