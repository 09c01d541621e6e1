"""What figures show, checked on records: each statement on figures by which it holds, and on others by which it does not."""

from types import SimpleNamespace

import numpy as np
import pytest

from genclust.lab.papers import hrwae_gan, ot_clustering, vade, wamic

DIGITS = np.repeat(np.arange(10), 4)


def record(**content):
    return SimpleNamespace(**content)


@pytest.mark.parametrize("codes, holds", [((0.9, 0.88), True), ((0.8, 0.84), False)])
def test_the_autoencoder_does_most_of_the_way_to_no_error(codes, holds):
    runs = {m: [record(metrics={"accuracy": v}) for v in values] for m, values in (("kmeans", (0.72, 0.72)), ("ae+gmm-centred", codes))}
    assert wamic.autoencoder_does_most(runs)[0] is holds
    with pytest.raises(LookupError, match="1 of at least 2 runs"):
        wamic.autoencoder_does_most(runs | {"kmeans": runs["kmeans"][:1]})


@pytest.mark.parametrize("values, holds", [((0.5, 0.4, 0.6), True), ((0.6, 0.7, 0.5), False),
                                           ((0.786, 0.77, 0.797), False)])  # by less than the tolerance: seeds differ by more
def test_accuracy_rises_from_the_first_epoch_to_the_last(values, holds):
    assert vade.accuracy_rises(record(curve=lambda phase, key: ((1, 2, 3), values)), {}, None)[0] is holds


def test_draws_belong_to_the_cluster_of_the_nearest_image():
    X = np.eye(4)[np.repeat(np.arange(4), 5)]
    arrays = dict(draws=np.full((4, 10, 4), 0, np.uint8), labels=np.repeat(np.arange(4), 5))
    for k in range(4):
        arrays["draws"][k, :, k] = 255
    data = SimpleNamespace(X=X.astype(np.float32))
    assert vade.draws_belong(None, arrays, data) == (True, "100 % of 40 draws (at least 90 % asked)")
    arrays["draws"][0, :5] = arrays["draws"][1, :5]  # half of one cluster's look like another's
    assert vade.draws_belong(None, arrays, data) == (False, "88 % of 40 draws (at least 90 % asked)")


def test_similar_digits_share_a_cluster():
    data = SimpleNamespace(y=DIGITS)
    merged = np.array([0, 1, 2, 3, 4, 5, 6, 5, 3, 4])[DIGITS]  # 4 with 9, 3 with 8
    holds, said = vade.similar_digits_merge(None, {"labels": merged}, data)
    assert holds and "49" in said and "38" in said
    assert not vade.similar_digits_merge(None, {"labels": np.where(DIGITS == 8, 9, merged)}, data)[0]


def test_digits_fall_into_subclasses():
    data, labels = SimpleNamespace(y=DIGITS), DIGITS.copy()
    labels[:2], labels[4:6] = 10, 11  # half of the 0s, half of the 1s
    assert vade.digits_split(None, {"labels": labels}, data) == (True, "digits with more than one cluster: 0, 1")
    labels[4:6] = 1
    assert vade.digits_split(None, {"labels": labels}, data) == (False, "digits with more than one cluster: 0")


@pytest.mark.parametrize("seconds, holds", [(3.0, True), (1.0, False)])
def test_the_adversarial_step_takes_longest(seconds, holds):
    rows = [("layer 1", 1.0), ("autoencoder", 1.5), ("mixture", 0.1), ("warm-up", 0.2), ("adversarial", seconds), ("encoder", 2.0)]
    found, said = wamic.step3_longest(record(history=[dict(phase=p, seconds=s) for p, s in rows]), {}, None)
    assert found is holds and said.startswith("step 1 2 s")  # the autoencoder's two phases are one step


def walks(step):
    """Ten clusters, one an axis: decoded codes from the image of the class on, ``step`` further away with each point."""
    found = np.zeros((10, wamic.WALK_STEPS, 11), np.uint8)
    for k in range(10):
        found[k, :, k] = 255
        found[k, :, 10] = step * np.arange(wamic.WALK_STEPS)
    return found


def test_walks_leave_the_data():
    data = SimpleNamespace(X=np.eye(11, dtype=np.float32)[DIGITS])
    assert wamic.walks_leave_the_data(None, dict(walks=walks(20)), data)[0]
    assert not wamic.walks_leave_the_data(None, dict(walks=walks(20)[:, ::-1]), data)[0]


def test_centroids_show_the_class_of_their_cluster():
    data = SimpleNamespace(X=np.eye(11, dtype=np.float32)[np.repeat(np.arange(10), 10)], y=np.repeat(np.arange(10), 10),
                           class_names=[str(d) for d in range(10)])
    arrays = dict(walks=walks(20), labels=np.repeat(np.arange(10), 10))
    assert wamic.centroids_show_their_class(None, arrays, data) == (True, "10 of 10 centroids show the class of their cluster")
    swapped = arrays | dict(walks=arrays["walks"][[1, 0, *range(2, 10)]])  # 0's centroid is drawn as a 1
    assert wamic.centroids_show_their_class(None, swapped, data) == (False, "8 of 10 centroids show the class of their cluster")


def test_umap_separates_the_classes():
    rng = np.random.default_rng(0)
    mixed, apart = rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 50 * DIGITS[:, None]
    data, rows = SimpleNamespace(y=DIGITS), np.arange(40)
    assert hrwae_gan.umap_separates(None, dict(codes=mixed, umap_g0=apart, code_rows=rows), data)[0]
    assert not hrwae_gan.umap_separates(None, dict(codes=apart, umap_g0=mixed, code_rows=rows), data)[0]


def runs(**accuracies):
    return {m.replace("_", "-"): [record(metrics={"accuracy": a, "ones_in_large": o}) for a, o in values] for m, values in accuracies.items()}


def test_with_pretraining_the_level_is_ten_per_cent():
    better, worse = [(0.80, 0), (0.83, 0), (0.81, 0)], [(0.77, 0), (0.81, 0), (0.78, 0)]  # p between 0.01 and 0.1
    assert not ot_clustering.ot_p_not_over_soft_kmeans_p(runs(ot_p=better, soft_kmeans_p=worse))[0]


def test_the_order_of_the_centres_decides_where_sizes_differ():
    matched = [(0.99, 0.0), (0.98, 0.0)]
    both = runs(ot_kmeans_order=[(0.6, 0.9), (0.99, 0.0)], ot_one_shot=matched)
    assert ot_clustering.order_of_kmeans(both)[0]
    assert not ot_clustering.order_of_kmeans(both | runs(ot_kmeans_order=[(0.99, 0.0), (0.99, 0.0)]))[0]  # no start was wrong
    assert not ot_clustering.order_of_kmeans(both | runs(ot_kmeans_order=[(0.995, 0.9), (0.99, 0.0)]))[0]  # and did no harm


def test_swapped_centres_end_in_the_wrong_cluster():
    matched = [(0.99, 0.0), (0.98, 0.0)]
    assert ot_clustering.swapped_centers(runs(ot_swapped=[(0.6, 0.9), (0.6, 0.8)], ot_one_shot=matched))[0]
    assert not ot_clustering.swapped_centers(runs(ot_swapped=[(0.6, 0.1), (0.6, 0.2)], ot_one_shot=matched))[0]
    assert not ot_clustering.swapped_centers(runs(ot_swapped=[(0.995, 0.9), (0.99, 0.8)], ot_one_shot=matched))[0]


def test_pretrained_ot_is_not_better_than_pretrained_soft_kmeans():
    worse, better = [(0.80, 0), (0.81, 0), (0.79, 0)], [(0.90, 0), (0.91, 0), (0.89, 0)]
    assert ot_clustering.ot_p_not_over_soft_kmeans_p(runs(ot_p=worse, soft_kmeans_p=better))[0]
    assert not ot_clustering.ot_p_not_over_soft_kmeans_p(runs(ot_p=better, soft_kmeans_p=worse))[0]
