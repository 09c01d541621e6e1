"""`make bench`: what the library costs, as ratios taken in one run on one machine.

Timings of a shared machine are noisy: read the ratios, and run it on a quiet one.
"""

import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from joblib import cpu_count

from genclust import VaDE, WAMiC, WAMiCSelection
from genclust.adversarial import clip_weights, relativistic
from genclust.base import MixedAdam, Trainer, resolve_device, resolve_precision
from genclust.datasets import load
from genclust.hrwae import HRWAENetwork, intermediate_loss, player_losses
from genclust.lab.records import RecordStore
from genclust.lab.schedule import run_all
from genclust.lab.specs import Spec
from genclust.networks import MLP, ReplicaMLP

THREADS = min(2, cpu_count())
SIZES = [784, 500, 500, 2000, 10]
ROOT = Path(__file__).resolve().parents[1]


def multiplication_rate(dtype: torch.dtype, device: torch.device, n: int = 2048, repeats: int = 15) -> float:
    """Median rate of n x n matrix products, in FLOP/s (a multiplication and an addition are two)."""
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * n**3 / statistics.median(times[3:])


def network_flops(n_rows: int) -> float:
    """FLOPs of one epoch's matrix products: forward, and the two of the backward pass for every layer but
    the first, which needs no gradient of its input."""
    pairs = list(zip(SIZES, SIZES[1:]))
    encoder = sum(a * b for a, b in pairs) + SIZES[-2] * SIZES[-1]  # with the head of log-variances
    decoder = sum(a * b for a, b in pairs)
    return 2.0 * n_rows * (3 * (encoder + decoder) - SIZES[0] * SIZES[1])


def our_epochs(X) -> tuple[float, float]:
    """Median seconds of an epoch of joint pretraining, and of VaDE's own."""
    model = VaDE(10, pretraining="end-to-end", pretrain_epochs=4, epochs=4, init="random", n_init=1, random_state=0).fit(X)
    by_phase = {p: [h["seconds"] for h in model.history_ if h["phase"] == p][1:] for p in ("autoencoder", "vade")}
    return statistics.median(by_phase["autoencoder"]), statistics.median(by_phase["vade"])


def clustpy_epochs(X) -> tuple[float, float]:
    """The same of ClustPy's VaDE with the same layers and batch, from differences of whole fits."""
    from clustpy.deep import VaDE as Peer

    def seconds(pretrain: int, train: int, X=X) -> float:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            Peer(10, batch_size=256, pretrain_epochs=pretrain, clustering_epochs=train, random_state=0,
                 initial_clustering_params={"n_init": 1, "max_iter": 1, "covariance_type": "diag"}).fit(X)
        return time.perf_counter() - start

    seconds(1, 1, X[:2560])  # what only a first fit costs, imports above all, must not count against the differences
    base = seconds(1, 1)
    return (seconds(3, 1) - base) / 2, (seconds(1, 3) - base) / 2


def critic_steps(X, steps: int = 40) -> tuple[float, float]:
    """Steps a second of WAMiC's critic on MNIST (batch 130): ours, and the same written plainly in PyTorch, with a call
    of the critic each for real, generated and mixed rows and autograd for the penalty, in float32."""
    device = resolve_device("auto")
    model = WAMiC(10, random_state=0)
    model.seed_, model.likelihood_ = 0, "gaussian"
    net = model._build(X.shape[1], torch.Generator().manual_seed(0)).to(device)
    rows, source = torch.from_numpy(X[:10_000]).to(device), torch.Generator(device).manual_seed(0)
    trainer = Trainer(model, net, rows, generator=source, dtype=resolve_precision("auto", device))
    player = model._critic(net, net.critic, trainer.batch, source, 1e-4)
    adam = torch.optim.Adam(net.critic.parameters(), lr=1e-4, betas=(0.5, 0.9))

    def plain() -> None:
        x, noise = trainer.batch(130), torch.randn(10, 13, 10, generator=source, device=device)
        with torch.no_grad():
            mixture = net.mixture
            scale = mixture.factors.tril(-1) + torch.diag_embed(mixture.factors.diagonal(dim1=1, dim2=2).exp())
            y = net.decoder((noise @ scale.mT + mixture.means[:, None]).flatten(0, 1))
            weights = (mixture.logits.softmax(0) / 13).repeat_interleave(13)
        mix = torch.rand(130, 1, generator=source, device=device)
        between = (mix * x + (1 - mix) * y).requires_grad_()
        slope = torch.autograd.grad(net.critic(between).sum(), between, create_graph=True)[0].norm(dim=1)
        loss = net.critic(y)[:, 0] @ weights - net.critic(x).mean() + 10 * (slope - 1).square() @ weights
        adam.zero_grad()
        loss.backward()
        adam.step()

    def rate(step) -> float:
        times = []
        for _ in range(steps + 5):
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return 1 / statistics.median(times[5:])

    return rate(lambda: trainer._step(player)), rate(plain)


def replica_rates(replicas: int = 30, iterations: int = 20) -> tuple[float, float]:
    """Iterations a second of step 3 on three moons, summed over replicas: side by side, and one after another."""
    X = load("three_moons").X
    settings = dict(latent_dim=1, hidden=(64, 64), critic_hidden=(64, 64), iterations=iterations, warmup=0, encoder_epochs=0,
                    pretrain_epochs=1, n_init=1, log_every=iterations, critic_batch=128, batch_size=64, random_state=0)

    def rate(model, phase: str, n: int) -> float:
        (row,) = [h for h in model.fit(X).history_ if h["phase"] == phase]
        return n * iterations / row["seconds"]

    choice = WAMiCSelection((3,), n_replicas=replicas, estimate_iterations=1, **settings)
    alone = WAMiC(3, pretraining="end-to-end", track_encoder=False, precision="float32", **settings)
    return rate(choice, "adversarial, K=3", replicas), rate(alone, "adversarial", 1)


def gan_iterations(n_features: int, hidden: int, K: int = 10, batch: int = 50, noise_dim: int = 64) -> tuple[float, float]:
    """Median seconds of an iteration of GANMM's GANs, a generator step and five critic steps for each of K clusters:
    all as one batched program, and one after another in a loop. In turns, so that both meet the same machine."""
    def generators(n: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(i) for i in range(n)]

    def player(make, leading: tuple[int, ...]):
        networks = [make(sizes) for sizes in ([noise_dim, hidden, n_features], [n_features, hidden, 1])]
        optimizers = [torch.optim.RMSprop(network.parameters(), lr=5e-5, alpha=0.9, foreach=True) for network in networks]
        generator, critic = networks

        def step(loss: torch.Tensor, of: int) -> None:
            loss.backward(inputs=list(networks[of].parameters()))
            optimizers[of].step()
            optimizers[of].zero_grad()

        def iteration() -> None:
            step(-critic(generator(torch.randn(*leading, batch, noise_dim))).mean(-2).sum(), 0)
            for _ in range(5):
                with torch.no_grad():
                    fake = generator(torch.randn(*leading, batch, noise_dim))
                both = critic(torch.cat([fake, torch.rand(*leading, batch, n_features)], -2))
                step((both[..., :batch, :].mean(-2) - both[..., batch:, :].mean(-2)).sum(), 1)
                clip_weights(critic.parameters(), 0.01)
        return iteration

    batched = player(lambda sizes: ReplicaMLP(sizes, generators(K)), (K,))
    single = [player(lambda sizes: MLP(sizes, generators(1)[0]), ()) for _ in range(K)]
    times: dict[str, list[float]] = {"batched": [], "loop": []}
    for _ in range(40):
        for name, iterations in (("batched", [batched]), ("loop", single)):
            start = time.perf_counter()
            for iteration in iterations:
                iteration()
            times[name].append(time.perf_counter() - start)
    return statistics.median(times["batched"][5:]), statistics.median(times["loop"][5:])


def hrwae_rates(X, rows: int = 128, rounds: int = 9) -> dict[str, float]:
    """Images a second of a training step of HRWAE-GAN, L = 2: plain eager float32 PyTorch first, then with one more of
    what the library does at a time. The variants take turns, so that what else the machine does hits all alike."""
    variants = ("plain", "channels last", "fused", "bfloat16", "compiled")
    images = torch.from_numpy(X[:rows])
    steps = {name: _hrwae_step(images, variants[: i + 1]) for i, name in enumerate(variants)}
    times = {name: [] for name in variants}
    for _ in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: rows / statistics.median(found[2:]) for name, found in times.items()}


def _hrwae_step(x, have):
    """One training step with the given accelerations."""
    low = torch.bfloat16 if "bfloat16" in have else torch.float32
    net = HRWAENetwork((28, 28, 1), "bernoulli", 2, 4, 16, 0, 128, torch.Generator().manual_seed(0))
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    if "fused" in have:
        optimizer = MixedAdam(net.parameters(), {m.weight for m in net.modules() if isinstance(m, layers)}, low, 1e-8)
        optimizer.lower(1e-4)
    else:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    autoencoder = torch.compile(net.autoencoder) if "compiled" in have else net.autoencoder

    def step():
        with torch.autocast("cpu", low, enabled=low != torch.float32):
            images = net.images(x) if "channels last" in have else net.images(x).contiguous(memory_format=torch.contiguous_format)
            found = autoencoder(images, torch.randn_like)
            if "fused" in have:
                error = net.reconstruction(found.output, x)
            else:
                error = torch.nn.functional.binary_cross_entropy_with_logits(net.rows(found.output), x, reduction="none").sum(1)
            l_d, l_g = player_losses(found, net.discriminators, relativistic, [1.0, 0.5])
            loss = error.mean() + 20 * l_g + 10 * intermediate_loss(found.maps) + l_d
        loss.backward()
        optimizer.step()
        net.zero_grad()
    return step


def many_records(folder: Path) -> RecordStore:
    """5000 records of a realistic size (150 epochs) in a store of its own."""
    source = next(r for r in RecordStore(ROOT / "book" / "records").all() if len(r.history) > 150)
    store = RecordStore(folder)
    for seed in range(1000):
        for method in ("gmm", "ae+gmm", "vade", "vade-umap", "vade-held"):
            record = source.model_copy(update={"spec": Spec(**source.spec.model_dump() | {"seed": seed, "method": method}),
                                               "arrays": None})
            path = store.path(record.spec)  # not through `put`, which waits for the disk each time
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(record.text())
    return store


def scheduling(store: RecordStore, work: Path, n: int = 900) -> float:
    """Seconds a task, beyond what the first two cost, of tasks with nothing left to do, in two processes."""
    specs = [record.spec for record in store.find(method="gmm")[: n + 2]]
    with contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        run_all(specs[:2], store, work, workers=2)
        middle = time.perf_counter()
        run_all(specs, store, work, workers=2)
    return (time.perf_counter() - middle - (middle - start)) / n


def timed(*command: str) -> float:
    """Seconds that a command of the checkout takes."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Prints every figure, and keeps them in build/bench.json."""
    torch.set_num_threads(THREADS)
    device = resolve_device("auto")
    dtype = resolve_precision("auto", device)
    X = load("mnist").X
    before = multiplication_rate(dtype, device)
    pretraining, training = our_epochs(X)
    after = multiplication_rate(dtype, device)
    rate = statistics.fmean((before, after))
    peer_pretraining, peer_training = clustpy_epochs(X)
    ours, plain = critic_steps(X)
    together, alone = replica_rates()
    gans = {"tabular": gan_iterations(19, 64), "embedded": gan_iterations(10, 32)}
    share = network_flops(len(X)) / training / rate
    images = hrwae_rates(X)
    used = "bfloat16" if dtype == torch.bfloat16 else "fused"  # what a fit uses here
    with tempfile.TemporaryDirectory() as scratch:
        store = many_records(Path(scratch) / "records")
        start = time.perf_counter()
        n_rows = len(store.table(method="vade"))
        collecting = time.perf_counter() - start
        listing = timed(sys.executable, "-m", "genclust.lab.cli", "status", "--records", str(store.root))
        per_task = scheduling(store, Path(scratch) / "work")
    rows = [
        ("matrix products, 2048 x 2048", f"{rate / 1e9:.0f} GFLOP/s", f"{before / 1e9:.0f} before, {after / 1e9:.0f} after the epochs"),
        ("pretraining epoch, MNIST, batch 256", f"{pretraining:.2f} s", f"ClustPy {peer_pretraining:.2f} s: {peer_pretraining / pretraining:.2f} times as fast"),
        ("VaDE epoch, MNIST, batch 256", f"{training:.2f} s", f"ClustPy {peer_training:.2f} s: {peer_training / training:.2f} times as fast (goal 2.5)"),
        ("share of the matrix rate", f"{100 * share:.0f} %", "goal 60 %"),
        ("WAMiC's critic, MNIST, batch 130", f"{ours:.0f} steps/s", f"plain PyTorch {plain:.0f}: {ours / plain:.2f} times as fast (goal 2)"),
        ("30 replicas of WAMiC, three moons", f"{together:.0f} iterations/s", f"one after another {alone:.0f}: {together / alone:.2f} times as fast (goal 5)"),
        *((f"GANMM's GANs, K = 10, {name}", f"{1e3 * batched:.1f} ms", f"in a loop {1e3 * loop:.1f} ms: {loop / batched:.1f} times as fast (goal 3)")
          for name, (batched, loop) in gans.items()),
        ("HRWAE-GAN step, L = 2, batch 128", f"{images[used]:.0f} images/s", f"plain eager float32 {images['plain']:.0f}: "
         f"{images[used] / images['plain']:.2f} times as fast (goal 1.5); each more: "
         + ", ".join(f"{name} {rate:.0f}" for name, rate in images.items())),
        ("a second `make book`", f"{timed('make', 'book'):.1f} s", "goal 30 s"),
        ("`genclust status`, 5000 records", f"{listing:.2f} s", "goal 1 s"),
        (f"a table of {n_rows} records", f"{1e3 * collecting:.0f} ms", "goal 200 ms"),
        ("scheduling, two local processes", f"{1e3 * per_task:.1f} ms a task", "goal 50 ms"),
    ]
    print(f"{device}, {THREADS} threads, {str(dtype).removeprefix('torch.')}, torch {torch.__version__}")
    for name, value, note in rows:
        print(f"{name:38} {value:>14}   {note}")
    results = ROOT / "build" / "bench.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps([dict(zip(("what", "value", "note"), row)) for row in rows], indent=1))


if __name__ == "__main__":
    main()
