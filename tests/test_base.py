"""Seeds, precision, checkpoints: what a fit promises whatever the method."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError

import genclust
from genclust import Autoencoder, VaDE, base
from genclust.base import CheckpointError, MixedAdam, exponential_decay, resolve_device, resolve_precision

SETTINGS = dict(n_clusters=3, latent_dim=2, hidden=[24, 16], batch_size=32, layer_epochs=3, pretrain_epochs=4,
                epochs=4, n_init=1, random_state=0, device="cpu", precision="float32")


def data():
    X, _ = make_blobs(100, n_features=20, centers=3, random_state=0)
    return ((X - X.min()) / np.ptp(X)).astype(np.float32)


X = data()


def vade(**changes):
    return VaDE(**SETTINGS | changes)


def assert_same_fit(one, other):
    """Every number that a fit leaves behind, bit for bit (but the seconds)."""
    assert one.objective_ == other.objective_
    for name in ("labels_", "weights_", "means_", "covariances_"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    theirs = other.module_.state_dict()
    for name, tensor in one.module_.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert timeless(one.history_) == timeless(other.history_)


def answers(model):
    """What a fitted model says of X, and draws."""
    found = [getattr(model, name)(X) for name in ("transform", "predict_proba", "predict", "score") if hasattr(model, name)]
    if hasattr(model, "inverse_transform"):
        found.append(model.inverse_transform(found[0]))
    if hasattr(model, "wasserstein"):
        found.append(model.wasserstein(X, iterations=2))
    return found + ([*model.sample(5)] if hasattr(model, "sample") else [])


def timeless(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


# -- seeds and labels --------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_seed_gives_one_fit(precision):
    one = vade(precision=precision).fit(X)
    assert_same_fit(one, vade(precision=precision).fit(X))
    other = vade(precision=precision, random_state=1).fit(X)
    assert not np.array_equal(one.means_, other.means_) and one.objective_ != other.objective_


def test_refitting_starts_over():
    model = vade().fit(X)
    assert_same_fit(model.fit(X), vade().fit(X))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu", torch.bfloat16)])
def test_what_a_caller_has_switched_on_or_off_does_not_change_a_fit(mode):
    with mode():
        model = vade().fit(X)
        found = answers(model)
    assert_same_fit(model, vade().fit(X))
    assert all(map(np.array_equal, found, answers(model)))


@pytest.mark.filterwarnings("ignore:.*have no rows")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_callers_autocast_reaches_neither_players_nor_draws(precision):
    options = dict(random_state=0, device="cpu", precision=precision)
    small = dict(hidden=[8], latent_dim=2, batch_size=32, pretrain_epochs=1, **options)
    models = [genclust.WAMiC(3, iterations=3, critic_hidden=[8], layer_epochs=1, encoder_epochs=1, n_init=1, **small),
              genclust.DeepKMeans(3, epochs=1, n_init=1, **small), genclust.DEC(3, iterations=5, layer_epochs=1, n_init=1, **small),
              genclust.GANMM(3, iterations=3, pretrain_iterations=2, e_step="critics", **options),
              genclust.ConditionalGAN(hidden=[8], iterations=5, **options)]
    for model in models:
        given = (X, np.arange(100) % 2)
        alone = clone(model).fit(*given)
        with torch.autocast("cpu", torch.bfloat16):
            model.fit(*given)
            found = answers(model)
        assert model.objective_ == alone.objective_ and all(map(np.array_equal, found, answers(alone)))


def test_a_fit_that_is_refused_leaves_nothing_of_the_one_before():
    model = vade().fit(X)
    with pytest.raises(ValueError, match="inside"):
        model.set_params(likelihood="bernoulli").fit(10 * X)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert not {"labels_", "means_", "history_", "objective_", "seed_"} & set(vars(model))
    gan = genclust.ConditionalGAN(hidden=[8], iterations=1, random_state=0).fit(X, np.arange(100) % 2)
    with pytest.raises(ValueError, match="y=None"):
        gan.fit(X, None)
    assert not [name for name in vars(gan) if name.endswith("_")]


def test_another_default_type_of_torch_is_refused():
    model = vade().fit(X)
    torch.set_default_dtype(torch.float64)
    try:
        for call in (lambda: vade().fit(X), lambda: model.predict(X), lambda: model.sample(2)):
            with pytest.raises(RuntimeError, match="torch's default is torch.float64"):
                call()
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_is_read_only_is_no_reason_to_warn(request):
    torch.set_warn_always(True)  # not once a process
    request.addfinalizer(lambda: torch.set_warn_always(False))
    frozen = X.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The given NumPy array is not writable")
        model = vade().fit(frozen)
        assert np.array_equal(model.predict(frozen), vade().fit(X).labels_)
        codes, labels = model.transform(X), np.arange(100) % 3
        for given in (codes, labels):
            given.flags.writeable = False
        model.inverse_transform(codes)
        genclust.GANMM(3, iterations=1, pretrain_iterations=1, init=labels).fit(X)
        genclust.DeepKMeans(3, hidden=[8], epochs=1, batch_size=32, init=frozen[:3]).fit(X)


def test_what_a_callback_notes_has_to_be_something_that_can_be_saved(tmp_path):
    with pytest.raises(TypeError, match="can't be kept with a fit"):
        vade().fit(X, checkpoint=tmp_path / "fit.safetensors", callback=lambda model, phase, epoch, logs: logs.update(model=model))


@pytest.mark.parametrize("beyond, likelihood", [(1e-7, "bernoulli"), (1e-3, "gaussian")])
def test_rounding_does_not_change_the_likelihood(beyond, likelihood):
    scaled = X.copy()
    scaled[0, 0] = 1 + beyond
    assert vade().fit(scaled).likelihood_ == likelihood
    assert genclust.DeepKMeans(3, hidden=[8], epochs=1, batch_size=32, random_state=0).fit(scaled).output_ == {
        "bernoulli": "sigmoid", "gaussian": "linear"}[likelihood]


@pytest.mark.parametrize("model", [VaDE, genclust.VAE])
def test_a_gaussian_likelihood_says_that_data_are_out_of_scale(model):
    with pytest.warns(RuntimeWarning, match="root mean square of .* Standardise X"):
        small = dict(hidden=[8], latent_dim=2, epochs=1, random_state=0)
        (model(3, layer_epochs=1, pretrain_epochs=1, **small) if model is VaDE else model(**small)).fit(1000 * X)


def test_global_generators_are_left_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    vade().fit(X).sample(5)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()


def test_global_generators_are_not_looked_at():
    torch.manual_seed(1), np.random.seed(1)
    one = vade().fit(X)
    torch.manual_seed(2), np.random.seed(2)
    assert_same_fit(one, vade().fit(X))


@pytest.mark.parametrize("y", [np.arange(100), ["a"] * 100, np.full(100, np.nan), object(), [1, 2]],
                         ids=["numbers", "strings", "nan", "object", "too few"])
def test_labels_never_enter(y):
    assert_same_fit(vade().fit(X), vade().fit(X, y))


# -- device and precision ----------------------------------------------------------------------


@pytest.mark.parametrize("capabilities, expected", [
    ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
    ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
    ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, torch.float32),
    ({}, torch.float32),
])
def test_auto_precision_asks_the_processor(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert resolve_precision("auto", torch.device("cpu")) is expected
    assert resolve_precision("float32", torch.device("cpu")) is torch.float32
    assert resolve_precision("bfloat16", torch.device("cpu")) is torch.bfloat16


def test_auto_precision_without_capabilities_is_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", torch.device("cpu")) is torch.float32


def test_auto_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device='cuda:0', but torch sees no CUDA device"):
        resolve_device("cuda:0")
    for name, value in (("is_available", True), ("device_count", 2), ("current_device", 1)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert resolve_device("auto") == resolve_device("cuda") == resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ValueError, match="device='cuda:7' does not exist: use 'cuda:0' to 'cuda:1', 'auto' or 'cpu'"):
        resolve_device("cuda:7")


def test_auto_precision_asks_the_device_that_is_meant(monkeypatch):
    asked = []

    @contextmanager
    def on(device):
        asked.append(device)
        yield
        asked.pop()

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: asked == [torch.device("cuda:1")])
    assert resolve_precision("auto", torch.device("cuda:1")) is torch.bfloat16
    assert resolve_precision("auto", torch.device("cuda:0")) is torch.float32


def test_bfloat16_training_is_close_to_float32():
    low, high = ({"autoencoder": vade(precision=p).fit(X, max_steps=6).step_losses_["autoencoder"],
                  "vade": vade(precision=p, pretraining=None).fit(X, max_steps=6).step_losses_["vade"]}
                 for p in ("bfloat16", "float32"))  # without pretraining both start from one mixture
    for phase in low:
        assert low[phase] != high[phase]  # or bfloat16 did nothing
        # 8 bits of mantissa are 0.4 % a product; a loss is a sum of many, six steps on
        np.testing.assert_allclose(low[phase], high[phase], rtol=0.02, err_msg=phase)


def test_players_in_bfloat16_see_what_the_step_before_has_learnt():
    def losses(precision):
        model = genclust.ConditionalGAN(hidden=[8], learning_rate=0.01, random_state=0, device="cpu", precision=precision)
        return model.fit(X, np.arange(100) % 2, max_steps=40).step_losses_["cgan"]

    assert losses("bfloat16") == pytest.approx(losses("float32"), abs=0.3)  # they span 4; with weights that stand still they are 2.8 apart


@pytest.mark.parametrize("options", [{}, {"max_steps": 2}])
def test_parameters_are_float32_after_a_fit(options):
    model = vade(precision="bfloat16").fit(X, **options)
    assert model.precision_ == "bfloat16"
    assert {p.dtype for p in model.module_.parameters()} == {torch.float32}
    assert model.transform(X).dtype == np.float32


def parameters(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def test_mixed_adam_in_float32_is_adam():
    ours, theirs = parameters((150, 100), (7,)), parameters((150, 100), (7,))
    mixed = MixedAdam(ours, {ours[0]}, torch.float32, eps=1e-4)
    adam = torch.optim.Adam(theirs, lr=1.0, eps=1e-4, fused=True)
    generator = torch.Generator().manual_seed(1)
    for rate in (0.01, 0.002):
        mixed.lower(rate)
        adam.param_groups[0]["lr"] = rate
        for _ in range(3):
            for p, q in zip(ours, theirs):
                p.grad = torch.randn(p.shape, generator=generator)
                q.grad = p.grad.clone()
            mixed.step()
            adam.step()
            assert all(p.grad is None for p in ours)
        mixed.restore()
    for p, q in zip(ours, theirs):
        assert torch.equal(p, q)


def test_mixed_adam_keeps_what_bfloat16_would_lose():
    matrix, bias = parameters((150, 100), (7,))
    start = matrix.detach().clone()
    mixed = MixedAdam([matrix, bias], {matrix}, torch.bfloat16, eps=1e-8)
    mixed.lower(1e-5)
    assert matrix.dtype == torch.bfloat16 and bias.dtype == torch.float32
    for _ in range(20):
        matrix.grad, bias.grad = torch.ones_like(matrix), torch.ones_like(bias)
        mixed.step()
        assert matrix.dtype == torch.bfloat16
    mixed.restore()
    assert matrix.dtype == torch.float32
    # twenty steps of 1e-5 against a constant gradient; one alone is far below bfloat16's 0.4 %
    np.testing.assert_allclose((start - matrix.detach()), 2e-4, rtol=0.01)


def test_exponential_decay():
    rate = exponential_decay(0.002, 0.9, 10, 0.0002)
    assert [rate(e) for e in (0, 9, 10, 20)] == pytest.approx([0.002, 0.002, 0.0018, 0.00162])
    assert rate(10_000) == 0.0002
    assert exponential_decay(0.1)(500) == 0.1


# -- callbacks and replays ---------------------------------------------------------------------


def test_callback_sees_every_epoch_and_may_add_to_history():
    seen = []

    def callback(estimator, phase, epoch, logs):
        seen.append((phase, epoch))
        logs["mine"] = len(seen)
        estimator.transform(X)  # usable between epochs

    model = vade()
    model.n_features_in_ = 20
    model.fit(X, callback=callback)
    layers = [(f"layer {i}", e) for i in (1, 2, 3) for e in (1, 2, 3)]
    assert seen == layers + [(p, e) for p in ("autoencoder", "vade") for e in (1, 2, 3, 4)]
    assert [row["mine"] for row in model.history_] == list(range(1, 18))
    assert_same_fit_but_mine(model, vade().fit(X))


def assert_same_fit_but_mine(one, other):
    for row in one.history_:
        row.pop("mine")
    assert_same_fit(one, other)


def test_callback_may_add_numpy_numbers_to_a_checkpointed_fit(tmp_path):
    def callback(estimator, phase, epoch, logs):
        logs |= {"single": np.float32(0.5), "whole": np.int64(epoch)}

    model = vade(epochs=1).fit(X, callback=callback, checkpoint=tmp_path / "fit.safetensors")
    assert model.history_[-1]["single"] == 0.5


def test_max_steps_replays_the_first_steps_of_each_phase():
    model = vade().fit(X, max_steps=2)
    assert {phase: len(losses) for phase, losses in model.step_losses_.items()} == dict.fromkeys(
        ["layer 1", "layer 2", "layer 3", "autoencoder", "vade"], 2)
    assert model.step_losses_ == vade().fit(X, max_steps=2).step_losses_
    full = vade().fit(X).history_[0]["loss"]  # an epoch of three steps, which begins with these two
    three = vade().fit(X, max_steps=3).step_losses_["layer 1"]
    assert three[:2] == model.step_losses_["layer 1"] and np.mean(three) == pytest.approx(full, rel=1e-6)


# -- pretrained layers in common ---------------------------------------------------------------


def test_cache_does_not_change_a_fit(tmp_path):
    plain = vade().fit(X)
    phases = []
    assert_same_fit(plain, vade().fit(X, cache=tmp_path))
    again = vade().fit(X, cache=tmp_path, callback=lambda est, phase, epoch, logs: phases.append(phase))
    assert_same_fit(plain, again)
    assert set(phases) == {"vade"}


def test_autoencoder_and_vade_share_layers(tmp_path):
    shared = {k: v for k, v in SETTINGS.items() if k not in ("n_clusters", "epochs", "n_init")}
    codes = Autoencoder(**shared).fit(X).transform(X)
    start = vade(epochs=0).fit(X, cache=tmp_path)
    phases = []
    cached = Autoencoder(**shared).fit(X, cache=tmp_path, callback=lambda *a: phases.append(a))
    assert phases == []
    assert np.array_equal(codes, cached.transform(X)) and np.array_equal(codes, start.transform(X))


def test_resumed_fit_fills_the_cache_as_an_uninterrupted_one(tmp_path, save_always):
    cache, path = tmp_path / "cache", tmp_path / "fit.safetensors"
    with pytest.raises(Stop):
        vade().fit(X, checkpoint=path, cache=cache, callback=stop_at("layer 2", 2))
    assert list(cache.glob("*.safetensors")) == []  # half a pretraining is of no use to others
    assert_same_fit(vade().fit(X, checkpoint=path, cache=cache), vade().fit(X))
    again = stop_at()
    assert_same_fit(vade().fit(X, cache=cache, callback=again), vade().fit(X))
    assert {phase for phase, _ in again.seen} == {"vade"}


def test_fit_resumed_after_the_pretraining_leaves_the_cache_alone(tmp_path, interrupted):
    assert_same_fit(vade().fit(X, checkpoint=interrupted, cache=tmp_path / "cache"), vade().fit(X))
    assert list((tmp_path / "cache").glob("*.safetensors")) == []


@pytest.mark.parametrize("change", [{"random_state": 1}, {"corruption": 0.1}, {"layer_epochs": 2}])
def test_cache_tells_pretrainings_apart(change, tmp_path):
    vade().fit(X, cache=tmp_path)
    assert_same_fit(vade(**change).fit(X, cache=tmp_path), vade(**change).fit(X))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    vade(epochs=1, init="kmeans").fit(X, cache=tmp_path)  # what comes after does not matter
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


# -- checkpoints -------------------------------------------------------------------------------

KILLED = """
import functools, json, os, signal, sys
import numpy as np
import torch
import torch._dynamo  # what an optimizer's first step, and EM, would import in every child anew
import torch._inductor.config
import sklearn.mixture
torch.set_num_threads(1)
from genclust import VaDE, base

Trainer, replace = base.Trainer, os.replace


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fit_and_die(settings, where, save_every, checkpoint, data):
    if save_every is not None:
        base.Trainer = functools.partial(Trainer, save_every=save_every)
    left = [where[1]]

    def dying(*paths):  # in the middle of a save: the file is there under its temporary name only
        left[0] -= 1
        die() if left[0] == 0 else replace(*paths)

    if where[0] == "write":
        os.replace = dying
    VaDE(**settings).fit(np.load(data), checkpoint=checkpoint,
                         callback=lambda est, phase, epoch, logs: [phase, epoch] == where and die())


for task in json.loads(sys.argv[1]):  # each in a process of its own; forked, as importing torch takes seconds
    child = os.fork()
    if child == 0:
        try:
            fit_and_die(*task)
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# name: settings, where it is killed, save_every, the state that survives, the first epoch of the resumed fit.
# The callback runs before an epoch is saved, so the epoch that is killed is lost.
KILLS = {
    "layer 2": ({}, ("layer 2", 3), 0.0, ("layer 2", 2), ("layer 2", 3)),
    "autoencoder": ({}, ("autoencoder", 2), 0.0, ("autoencoder", 1), ("autoencoder", 2)),
    "vade": ({}, ("vade", 3), 0.0, ("vade", 2), ("vade", 3)),
    "vade's first epoch": ({}, ("vade", 1), 0.0, ("mixture", 0), ("vade", 1)),
    "vade in bfloat16": ({"precision": "bfloat16"}, ("vade", 4), 0.0, ("vade", 3), ("vade", 4)),
    "phase ends saved only": ({}, ("autoencoder", 3), None, ("layer 3", 3), ("autoencoder", 1)),
    "while saving": ({}, ("write", 12), 0.0, ("autoencoder", 2), ("autoencoder", 3)),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Runs every fit of KILLS in a process that dies by SIGKILL; the checkpoints they leave."""
    folder = tmp_path_factory.mktemp("killed")
    np.save(folder / "data.npy", X)
    files = {name: folder / str(i) / "fit.safetensors" for i, name in enumerate(KILLS)}
    tasks = [[SETTINGS | changes, where, save_every, str(files[name]), str(folder / "data.npy")]
             for name, (changes, where, save_every, *_) in KILLS.items()]
    environment = os.environ | {"PYTHONPATH": str(Path(genclust.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, "-c", KILLED, json.dumps(tasks)], env=environment, timeout=300,
                             capture_output=True, text=True)
    assert process.stdout.split() == [str(-signal.SIGKILL.value)] * len(KILLS), process.stderr
    return files


@pytest.mark.parametrize("name", KILLS)
def test_killed_fit_resumes_bit_for_bit(name, killed):
    changes, where, _, survives, first = KILLS[name]
    with safe_open(killed[name], "pt") as file:
        meta = json.loads(file.metadata()["meta"])
    assert (meta["phase"], meta["epoch"]) == survives
    seen = []
    resumed = vade(**changes).fit(X, checkpoint=killed[name], callback=lambda est, *at: seen.append(at[:2]))
    assert seen[0] == first  # it did go on, and not start over
    assert_same_fit(resumed, vade(**changes).fit(X))


class Stop(Exception):
    pass


def stop_at(*where):
    """A callback that interrupts the fit, and after it the epochs that were seen."""
    def callback(estimator, phase, epoch, logs):
        callback.seen.append((phase, epoch))
        if (phase, epoch) == where:
            raise Stop
    callback.seen = []
    return callback


def test_a_fit_goes_on_with_as_many_threads_as_it_began_with(save_always, tmp_path):
    def fit(threads, **options):
        torch.set_num_threads(threads)
        try:
            return vade().fit(X, **options)
        finally:
            assert torch.get_num_threads() == threads

    whole = fit(2)
    with pytest.raises(Stop):
        fit(2, checkpoint=tmp_path / "fit.safetensors", callback=stop_at("vade", 2))
    resumed = fit(1, checkpoint=tmp_path / "fit.safetensors")
    assert whole.threads_ == resumed.threads_ == 2
    assert_same_fit(resumed, whole)


@pytest.fixture
def interrupted(tmp_path, save_always):
    """The checkpoint of a fit that stopped in its third epoch of "vade"."""
    path = tmp_path / "fit.safetensors"
    with pytest.raises(Stop):
        vade().fit(X, checkpoint=path, callback=stop_at("vade", 3))
    return path


def test_interrupted_fit_can_be_taken_up_by_the_same_estimator(interrupted):
    model = vade()
    with pytest.raises(Stop):
        model.fit(X, checkpoint=interrupted, callback=stop_at("vade", 4))
    assert_same_fit(model.fit(X, checkpoint=interrupted), vade().fit(X))


def test_a_fit_that_fails_leaves_nothing_to_predict_with(tmp_path):
    model = vade().fit(X)
    with pytest.raises(FloatingPointError):
        model.set_params(learning_rate=1e30).fit(X)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(Stop):
        model.set_params(learning_rate=1e-3).fit(X, callback=stop_at("vade", 2))
    with pytest.raises(NotFittedError):
        model.transform(X)
    (tmp_path / "fit.safetensors").write_bytes(b"damaged")
    damaged = vade()
    with pytest.raises(CheckpointError):
        damaged.fit(X, checkpoint=tmp_path / "fit.safetensors")
    with pytest.raises(NotFittedError):
        damaged.predict(X)
    refused = vade(n_clusters=1000)
    with pytest.raises(ValueError, match="n_clusters=1000"):
        refused.fit(X)
    with pytest.raises(NotFittedError):
        refused.predict(X)


def test_a_checkpoint_asks_for_a_seed(tmp_path):
    with pytest.warns(RuntimeWarning, match="random_state=None: every fit draws its own seed.*Give random_state a number"):
        vade(random_state=None, pretraining=None, epochs=1).fit(X, checkpoint=tmp_path / "fit.safetensors")
    with pytest.raises(CheckpointError, match="other parameters, data or random_state"):
        vade(random_state=1, pretraining=None, epochs=1).fit(X, checkpoint=tmp_path / "fit.safetensors")


def test_a_restart_that_fails_is_left_out(monkeypatch):
    phases, failing = VaDE._phases, {1}
    seeds = []

    def breaks(self, trainer):
        seeds.append(self.seed_)
        if len(seeds) - 1 in failing:
            raise FloatingPointError("the loss became nan")
        phases(self, trainer)

    monkeypatch.setattr(VaDE, "_phases", breaks)
    with pytest.warns(RuntimeWarning, match="restart failed and is left out: the loss became nan"):
        model = vade(n_restarts=3, pretraining=None).fit(X)
    assert len(seeds) == 3 and model.seed_ in (seeds[0], seeds[2]) and np.array_equal(model.predict(X), model.labels_)
    failing |= {3, 4}
    with pytest.raises(FloatingPointError), warnings.catch_warnings(action="error"):
        model.set_params(n_restarts=2).fit(X)
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize("max_steps", [0, -1, 1.5, "all"])
def test_a_replay_of_no_steps_is_refused(max_steps):
    for model in (vade(), genclust.VAE(hidden=[8])):
        with pytest.raises(ValueError, match=f"max_steps={max_steps!r}: use a whole number, 1 or more, or None"):
            model.fit(X, max_steps=max_steps)


@pytest.mark.parametrize("changes, words", [
    (dict(hidden=[-3]), r"hidden=\[-3\]"), (dict(hidden=[2.5]), r"hidden=\[2.5\]"), (dict(hidden=(8, 0)), r"hidden=\(8, 0\)"),
    (dict(device="meta"), "device='meta'")])
def test_sizes_and_devices_that_can_not_be_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        vade(**changes).fit(X)


def test_what_is_no_code_is_not_decoded():
    model = vade(pretraining=None, epochs=1).fit(X)
    for Z, words in ((np.zeros((3, 5)), "Z has 5 columns, but a code has 2"), (np.full((3, 2), np.nan), "NaN"), (np.zeros(2), "2D array")):
        with pytest.raises(ValueError, match=words):
            model.inverse_transform(Z)


def test_restarts_resume_one_by_one(tmp_path, save_always):
    options = dict(n_restarts=3, pretraining=None)
    path, calls = tmp_path / "fit.safetensors", []

    def callback(estimator, phase, epoch, logs):
        calls.append(epoch)
        if len(calls) == 7:  # the second restart's third epoch of four
            raise Stop

    with pytest.raises(Stop):
        vade(**options).fit(X, checkpoint=path, callback=callback)
    assert sorted(os.listdir(tmp_path)) == ["fit.1.safetensors", "fit.safetensors"]
    last = stop_at()
    resumed = vade(**options).fit(X, checkpoint=path, callback=last)
    assert last.seen == [("vade", e) for e in (3, 4, 1, 2, 3, 4)]
    assert_same_fit(resumed, vade(**options).fit(X))


def test_checkpoint_does_not_change_a_fit_and_leaves_one_file(tmp_path, save_always):
    path = tmp_path / "folder" / "fit.safetensors"
    assert_same_fit(vade().fit(X, checkpoint=path), vade().fit(X))
    assert os.listdir(path.parent) == ["fit.safetensors"]


def test_finished_fit_is_read_and_not_repeated(tmp_path):
    path = tmp_path / "fit.safetensors"
    first = vade().fit(X, checkpoint=path)
    content, callback = path.read_bytes(), stop_at()
    again = vade().fit(X, checkpoint=str(path), callback=callback)
    assert callback.seen == [] and path.read_bytes() == content
    assert_same_fit(again, first)
    assert [row["seconds"] for row in again.history_] == [row["seconds"] for row in first.history_]


@pytest.mark.parametrize("where, words", [
    ("folder", "it is a folder: name a file in it"), ("file/x.safetensors", "what should be its folder is a file"),
    ("file/deeper/x.safetensors", "on the way to it is a file"), ("/proc/nope/x.safetensors", "name a folder that can be written")])
def test_a_checkpoint_that_can_not_be_written_is_refused_before_any_work(where, words, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    callback = stop_at()
    with pytest.raises(OSError, match=f"could not write {re.escape(str(tmp_path / where))}: .*{words}"):
        vade().fit(X, checkpoint=tmp_path / where, callback=callback)
    assert callback.seen == []


def test_failed_save_keeps_the_old_checkpoint(interrupted, monkeypatch):
    content = interrupted.read_bytes()

    def full(*args, **kwargs):
        Path(args[1]).write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(base, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        vade().fit(X, checkpoint=interrupted)
    assert interrupted.read_bytes() == content and os.listdir(interrupted.parent) == [interrupted.name]


@pytest.mark.parametrize("keep", [0, 4, 60, 0.5, -1])
def test_truncated_checkpoint_is_named(keep, interrupted):
    content = interrupted.read_bytes()
    interrupted.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=re.escape(str(interrupted))):
        vade().fit(X, checkpoint=interrupted)


def test_foreign_file_is_not_a_checkpoint(tmp_path):
    path = tmp_path / "fit.safetensors"
    path.write_text("labels of something else, in no format at all")
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        vade().fit(X, checkpoint=path)
    base.save_file({"x": torch.zeros(2)}, path)  # safetensors, but without our metadata
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        vade().fit(X, checkpoint=path)


@pytest.mark.parametrize("change", [{"random_state": 1}, {"epochs": 5}, {"init": "kmeans"}, {"learning_rate": 0.001},
                                    {"hidden": [24, 17]}, {"n_clusters": 2}])
def test_checkpoint_of_other_parameters_is_refused(change, interrupted):
    content = interrupted.read_bytes()
    with pytest.raises(CheckpointError, match=re.escape(str(interrupted)) + ".*other parameters, data or random_state"):
        vade(**change).fit(X, checkpoint=interrupted)
    assert interrupted.read_bytes() == content


def test_checkpoint_of_another_precision_says_which_to_set(tmp_path, save_always, monkeypatch):
    path, asked = tmp_path / "fit.safetensors", []
    native = [torch.bfloat16, torch.float32]  # of the machine on which it begins, and of the one on which it shall go on
    monkeypatch.setattr(base, "resolve_precision", lambda p, device: native[len(asked)] if p == "auto" else getattr(torch, p))
    with pytest.raises(Stop):
        vade(precision="auto").fit(X, checkpoint=path, callback=stop_at("vade", 3))
    asked.append("there")
    for precision in ("auto", "float32"):
        with pytest.raises(CheckpointError, match="was written on cpu in bfloat16, and this fit is on cpu in float32: "
                                                  "set device='cpu' and precision='bfloat16', or delete it to start over"):
            vade(precision=precision).fit(X, checkpoint=path)
    seen = stop_at()
    assert_same_fit(vade(precision="bfloat16").fit(X, checkpoint=path, callback=seen), vade(precision="bfloat16").fit(X))
    assert seen.seen == [("vade", 3), ("vade", 4)]


def test_checkpoint_of_another_device_says_which_to_set(interrupted):
    tensors, meta = base.read_tensors(interrupted)
    base.write_tensors(interrupted, tensors, meta | {"device": "cuda", "fingerprint": "of the fit there"})
    with pytest.raises(CheckpointError, match="was written on cuda in float32, and this fit is on cpu in float32: set device='cuda'"):
        vade().fit(X, checkpoint=interrupted)


def test_checkpoint_of_other_data_or_estimator_is_refused(interrupted):
    changed = X.copy()
    changed[50, 3] += 1e-6
    with pytest.raises(CheckpointError, match="other parameters, data or random_state"):
        vade().fit(changed, checkpoint=interrupted)
    with pytest.raises(CheckpointError, match="other parameters, data or random_state"):
        Autoencoder(latent_dim=2, hidden=[24, 16], random_state=0, precision="float32").fit(X, checkpoint=interrupted)


def test_what_another_version_made_is_not_taken_up(interrupted, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    before = vade(epochs=0).fit(X, cache=cache)
    monkeypatch.setattr(base, "__version__", "another")
    with pytest.raises(CheckpointError, match="or by another version of genclust"):
        vade().fit(X, checkpoint=interrupted)
    assert_same_fit(vade(epochs=0).fit(X, cache=cache), before)  # trained anew
    assert len(list(cache.glob("*.safetensors"))) == 2


def test_checkpoint_takes_parameters_that_change_nothing(interrupted):
    callback = stop_at()
    model = vade(hidden=(24, 16), device="auto" if not torch.cuda.is_available() else "cpu")
    assert_same_fit(model.fit(X, checkpoint=interrupted, callback=callback), vade().fit(X))
    assert callback.seen == [("vade", 3), ("vade", 4)]


def test_checkpoint_of_numpy_parameters(tmp_path):
    numbers = dict(latent_dim=np.int64(2), hidden=np.array([24, 16]), learning_rate=np.float32(0.002), epochs=1)
    model = vade(**numbers).fit(X, checkpoint=tmp_path / "fit.safetensors")
    assert np.isfinite(model.objective_)


def test_checkpoints_are_plain_tensors(interrupted):
    with safe_open(interrupted, "pt") as file:
        names, meta = set(file.keys()), json.loads(file.metadata()["meta"])
    assert {"generator", "module.mixture.means", "optimizer.0.exp_avg"} <= names
    assert meta["phase"] == "vade" and meta["epoch"] == 2 and len(meta["history"]) == 3 * 3 + 4 + 2


def test_library_never_unpickles():
    """Loading a pickle runs whatever code is in it: no module may. Of joblib only what counts the cores is used."""
    forbidden = re.compile(r"^\s*(import|from)\s+(c?pickle|dill|joblib(?! import cpu_count$)|shelve)\b|\bpickle\.loads?\b|\btorch\.load\b"
                           r"|allow_pickle\s*=\s*True|\bread_pickle\b|weights_only\s*=\s*False", re.MULTILINE)
    files = sorted(Path(genclust.__file__).parent.rglob("*.py"))
    assert len(files) > 5
    assert [str(f) for f in files if forbidden.search(f.read_text(encoding="utf-8"))] == []


def test_a_file_can_be_replaced_while_it_is_read(tmp_path):
    path = tmp_path / "some.safetensors"

    def write(n: int) -> None:
        base.write_tensors(path, {"x": torch.full((n,), float(n)), "empty": torch.empty(0, 3), "one": torch.tensor(n)}, {"n": n})

    def alternate() -> None:
        for i in range(300):
            write((10, 40_000)[i % 2])

    write(10)
    writer = threading.Thread(target=alternate)
    writer.start()
    while writer.is_alive():
        tensors, meta = base.read_tensors(path)
        assert tensors["x"].shape == (meta["n"],) and tensors["x"].eq(meta["n"]).all() and int(tensors["one"]) == meta["n"]
        assert tensors["empty"].shape == (0, 3)
    writer.join()


def test_checkpoint_of_a_phase_that_is_gone_is_refused(interrupted):
    tensors, meta = base.read_tensors(interrupted)
    base.write_tensors(interrupted, tensors, meta | {"phase": "layer 9"})
    with pytest.raises(CheckpointError, match="layer 9"):
        vade().fit(X, checkpoint=interrupted)


def test_layers_of_another_precision_are_others(tmp_path):
    for precision in ("float32", "bfloat16"):
        vade(epochs=0, precision=precision).fit(X, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
