"""What every deep estimator shares: seed, device, precision, the minibatch loop and checkpoints.

A fit is a fixed sequence of named *phases* (pretrain this layer, start the mixture, train the
model). :class:`Trainer` runs them one after another. With a checkpoint file it can be killed at
any moment and picks up after the last saved epoch, on a CPU bit for bit: a checkpoint holds every tensor
of the module, the optimizer's state and the random generator. On CUDA, whose kernels need not add up in
the same order twice, a resumed or repeated fit agrees up to rounding, as far as training does not enlarge it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from numbers import Integral
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import __version__
from .draws import Source, draw
from .files import acquire, check_writable, clear_half_written, replacing

Callback = Callable[["DeepEstimator", str, int, dict], None]
Loss = Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]
EVAL_BATCH = 4096  # rows at once outside training; bounds the memory of predict and transform


class CheckpointError(RuntimeError):
    """A checkpoint that can't be read, or belongs to another fit."""


class Diverged(FloatingPointError):
    """A phase whose losses stopped being finite: at which ``iteration``, or epoch. The estimator is left in the
    last state that was known to be finite, and so is the checkpoint."""

    def __init__(self, phase: str, iteration: int, good: int, unit: str = "iteration"):
        super().__init__(f"phase {phase!r} diverged by {unit} {iteration}: the estimator holds the state after {unit} "
                         f"{good}; lower the learning rates, or look for extreme values in X")
        self.iteration = iteration


def resolve_device(device: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, the CPU elsewhere; ``"cuda"`` the current one. ValueError for what is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device={device!r} is not a device: use 'auto', 'cpu', 'cuda' or 'cuda:N'") from None
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device!r}: use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}, but torch sees no CUDA device: use 'auto' or 'cpu'")
    if found.type == "cuda" and found.index is None:
        found = torch.device("cuda", torch.cuda.current_device())
    if found.type == "cuda" and found.index >= (n := torch.cuda.device_count()):
        raise ValueError(f"device={device!r} does not exist: use 'cuda:0' to 'cuda:{n - 1}', 'auto' or 'cpu'")
    return found


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """``"auto"`` is bfloat16 where the processor multiplies it natively, float32 elsewhere.

    On a CPU without AVX512-BF16 or AMX bfloat16 is emulated and slower than float32, so it is
    looked for and never assumed.
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has = getattr(torch.cpu, "get_capabilities", dict)()
        native = bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32


class MixedAdam:
    """Adam on float32 parameters, of which the weight matrices spend each epoch in a lower precision.

    Autocast casts every weight matrix at every step, forward and back; here a matrix *is* low
    precision from :meth:`lower` to :meth:`restore`, beside its float32 master, which Adam updates.
    The arithmetic is the same, without the casts' traffic. What is not in ``matrices`` stays float32
    throughout; in float32 nothing is lowered and this is plain fused Adam.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], matrices: set[nn.Parameter], dtype: torch.dtype, eps: float,
                 betas: tuple[float, float] = (0.9, 0.999), factors: Mapping[nn.Parameter, float] | None = None):
        factors = factors or {}
        self.parameters = sorted(parameters, key=lambda p: factors.get(p, 1.0))
        self.dtype = dtype
        self.low = [p for p in self.parameters if dtype != torch.float32 and p in matrices]
        self.masters = {p: p.data for p in self.low}
        groups = [{"factor": factor, "params": [nn.Parameter(self.masters[p]) if p in self.masters else p for p in own]}
                  for factor, own in groupby(self.parameters, key=lambda p: factors.get(p, 1.0))]
        self.adam = torch.optim.Adam(groups, lr=1.0, betas=betas, eps=eps, fused=True)
        self.stepped = [p for group in self.adam.param_groups for p in group["params"]]

    def lower(self, rate: float) -> None:
        """Before an epoch: sets the learning rate and casts the matrices."""
        for group in self.adam.param_groups:
            group["lr"] = rate * group["factor"]
        for p in self.low:
            p.grad, p.data = None, p.data.to(self.dtype)

    def step(self) -> None:
        """One step on the gradients in ``.grad``, which are used up."""
        for p, q in zip(self.parameters, self.stepped):
            if p is not q and p.grad is not None:
                q.grad = p.grad.to(torch.float32) if q.grad is None else q.grad.copy_(p.grad)
        self.adam.step()
        for p, q in zip(self.parameters, self.stepped):
            if p is not q:
                p.data.copy_(q.data)
            p.grad = None

    def restore(self) -> None:
        """After an epoch: every parameter is float32 again."""
        for p in self.low:
            p.grad, p.data = None, self.masters[p]


@contextmanager
def without_autocast() -> Iterator[None]:
    """Around, or as a decorator on, what an estimator computes: the caller's autocast does not reach it."""
    with torch.autocast("cpu", enabled=False, cache_enabled=True), torch.autocast("cuda", enabled=False, cache_enabled=True):
        yield


@dataclass
class Player:
    """One side of an adversarial phase: what it minimises, with which optimizer, how often it moves.

    ``loss()`` draws its own rows and noise (see :meth:`Trainer.batch`) and gives a scalar and its named terms. Only
    what ``optimizer`` holds gets a gradient from it. ``steps`` are taken in every iteration (or so many as it maps the
    iteration to), each followed by ``after()``.
    """

    name: str
    loss: Callable[[], tuple[Tensor, dict[str, Tensor]]]
    optimizer: torch.optim.Optimizer
    steps: int | Callable[[int], int] = 1
    after: Callable[[], None] | None = None


class Trainer:
    """Runs the phases of one fit on ``X`` (n, d), a float32 tensor on ``device``.

    Parameters
    ----------
    module : holds everything the fit learns; its state is what a checkpoint saves.
    generator : shuffles the rows and draws every noise; :class:`~genclust.draws.Generators` for replicas.
    dtype : of the weight matrices (see :class:`MixedAdam`) and of autocast; float32 for neither.
    callback : see :meth:`DeepEstimator.fit`.
    checkpoint : file to save to and to resume from, or None.
    fingerprint, same : says which fit this is, and other fingerprints of that fit; a checkpoint with yet another is refused.
    max_steps : stop each phase after so many optimizer steps (for replays).
    shared : file for the state after :meth:`shared_stage`, which other fits may use too, or None.
    save_every : seconds between two writings of the checkpoint inside a phase.
    """

    def __init__(self, owner: DeepEstimator, module: nn.Module, X: Tensor, *, generator: Source, dtype: torch.dtype,
                 callback: Callback | None = None, checkpoint: Path | None = None, fingerprint: str = "", same: Sequence[str] = (),
                 max_steps: int | None = None, shared: Path | None = None, save_every: float = 30.0):
        self.owner, self.module, self.X, self.dtype = owner, module, X, dtype
        self.generator = generator
        self.callback, self.checkpoint, self.fingerprint, self.same = callback, checkpoint, fingerprint, same
        self.machine = {"device": X.device.type, "precision": str(dtype).removeprefix("torch.")}
        self.max_steps, self.shared, self.save_every = max_steps, shared, save_every
        self.history: list[dict] = []
        self.step_losses: dict[str, list[float]] = defaultdict(list)
        self.kept: dict[str, Tensor] = {}  # what a later phase needs beside the module; part of a checkpoint
        self._saved_at = time.monotonic()
        self._resume = self._read() if checkpoint is not None and checkpoint.exists() else None
        if self._resume is not None:  # sums in another order would end elsewhere; `fit` puts the number back
            torch.set_num_threads(self._resume.get("threads", torch.get_num_threads()))

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        """Around a loss: the products of what :class:`MixedAdam` does not hold in low precision are cast to it."""
        try:
            with torch.autocast(self.X.device.type, self.dtype, enabled=self.dtype != torch.float32):
                yield
        finally:  # of itself only the outermost autocast forgets the weights that it has cast, and the next step changes them
            torch.clear_autocast_cache()

    # -- phases ------------------------------------------------------------------------------

    def once(self, name: str, compute: Callable[[], None], *, logged: bool = False) -> None:
        """A phase without an optimizer, which changes the module in one go; if ``logged``, its history is one epoch."""
        if self._resume_at(name) is None:
            return
        started = time.perf_counter()
        compute()
        if logged and self.max_steps is None:
            self._log({"phase": name, "epoch": 1, "seconds": time.perf_counter() - started})
        self._save(name, 0, (), finished=True)

    def _log(self, logs: dict) -> None:
        self.history.append(logs)
        if self.callback is not None:
            self.callback(self.owner, logs["phase"], logs["epoch"], logs)

    def train(self, name: str, loss: Loss, parameters: Iterable[nn.Parameter], *, epochs: int, batch_size: int,
              learning_rate: Callable[[int], float], adam_eps: float = 1e-8,
              adam_betas: tuple[float, float] = (0.9, 0.999), factors: Mapping[nn.Parameter, float] | None = None,
              usable: bool = False) -> None:
        """Adam on ``loss(X[rows], rows)``, a scalar and its named terms, for ``epochs`` passes over X, each of as many whole batches
        as there are; what remains is left out, or is the only batch.

        ``learning_rate`` maps an epoch, from 0, to the rate used in it; a parameter in ``factors`` gets that many times
        as much. FloatingPointError where the loss stops being finite. If the module is ``usable`` after any epoch, which it
        is not while it is being pretrained, the last finite state is put back then, and the error is Diverged.
        """
        saved = self._resume_at(name)
        if saved is None or epochs == 0:
            return
        matrices = {layer.weight for layer in self.module.modules()
                    if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))}
        optimizer = MixedAdam(parameters, matrices, self.dtype, adam_eps, adam_betas, factors)
        first = self._restore(saved, [optimizer.adam]) if saved else 0
        good = self._copy(name, first, [optimizer.adam]) if usable else None
        n, steps = len(self.X), 0
        bar = tqdm(range(first, epochs), desc=name, initial=first, total=epochs, unit="epoch", leave=False,
                   disable=not self.owner.verbose)
        for epoch in bar:
            started, sums = time.perf_counter(), defaultdict(lambda: torch.zeros((), device=self.X.device))
            rate = learning_rate(epoch)
            optimizer.lower(rate)
            order = draw(torch.randperm, n, source=self.generator)
            # A smaller last batch would take a full-sized noisy step: whatever its size it is dropped (of 511 rows and batches
            # of 256 an epoch is one step), and as rows are shuffled anew, no row is left out for long.
            n_batches = max(1, n // batch_size)
            for rows in order[..., : n_batches * batch_size].split(batch_size, dim=-1):
                with self._autocast():
                    value, terms = loss(self.X[rows], rows)
                value.backward(inputs=optimizer.parameters)  # what is held fixed would gather gradients that nobody uses
                optimizer.step()
                for key, term in {"loss": value, **terms}.items():
                    sums[key] += term.detach()
                steps += 1
                if self.max_steps is not None:
                    self.step_losses[name].append(float(value.detach()))
                    if steps >= self.max_steps:
                        optimizer.restore()
                        return
            optimizer.restore()
            logs = {key: float(total) / n_batches for key, total in sums.items()}
            now = self._copy(name, epoch + 1, [optimizer.adam]) if usable else None
            if not math.isfinite(logs["loss"]) or (usable and not self._learnt_is_finite(now)):
                if usable:
                    self._go_back(good, [optimizer.adam])
                    raise Diverged(name, epoch + 1, good["epoch"], "epoch")
                raise FloatingPointError(
                    f"the loss became {logs['loss']} in phase {name!r}, epoch {epoch + 1} (learning rate {rate:g}): "
                    "lower learning_rate, or look for extreme values in X")
            logs = {"phase": name, "epoch": epoch + 1, "learning_rate": rate,
                    "seconds": time.perf_counter() - started, **logs}
            bar.set_postfix(loss=f"{logs['loss']:.4g}")
            self._log(logs)
            if usable:
                good = now | {"history": list(self.history)}
            finished = epoch + 1 == epochs
            self._save(name, epoch + 1, () if finished else [optimizer.adam], finished)

    def batch(self, size: int) -> Tensor:
        """Rows of X drawn with replacement, (size, d); for replicas (R, size, d), each its own."""
        return self.X[draw(torch.randint, len(self.X), (size,), source=self.generator)]

    def _step(self, player: Player) -> dict[str, Tensor]:
        """One step of a player: its loss before it, under its name, and the terms."""
        with self._autocast():
            value, terms = player.loss()
        # `inputs` leaves the gradients of the other players' parameters alone
        value.backward(inputs=[p for group in player.optimizer.param_groups for p in group["params"]])
        player.optimizer.step()
        player.optimizer.zero_grad()
        if player.after is not None:
            player.after()
        return {key: term.detach() for key, term in {player.name: value, **terms}.items()}

    def alternate(self, name: str, players: Sequence[Player], *, iterations: int, log_every: int = 100,
                  review: Callable[[dict], bool] | None = None) -> None:
        """An adversarial phase: in each of ``iterations`` the players take their steps, one after another.

        Every ``log_every`` iterations the history gets the mean over them of every player's loss, under its name, and
        of its terms; "epoch" is the number of iterations so far. There, and only there, the phase is checkpointed and
        the callback called. A player may go on in the phase right after this one. With ``max_steps`` it ends after the
        first iteration that reaches so many steps of all players, whose losses are kept in turn. Diverged where a loss
        stops being finite.

        ``review(logs)``, called with what the history will get, may add to it, and ends the phase by returning True.
        """
        optimizers = [player.optimizer for player in players]
        saved = self._resume_at(name, optimizers)
        if saved is None or iterations == 0:
            return
        first = self._restore(saved, optimizers) if saved else 0
        good = self._copy(name, first, optimizers)
        started, sums = time.perf_counter(), defaultdict(list)
        bar = tqdm(range(first, iterations), desc=name, initial=first, total=iterations, unit="iteration", leave=False,
                   disable=not self.owner.verbose)
        for iteration in bar:
            for player in players:
                for _ in range(player.steps(iteration) if callable(player.steps) else player.steps):
                    found = self._step(player)
                    for key, term in found.items():
                        sums[key].append(term)
                    if self.max_steps is not None:
                        self.step_losses[name].append(float(found[player.name]))
            if self.max_steps is not None and len(self.step_losses[name]) >= self.max_steps:
                return
            done = iteration + 1
            if done % log_every and done != iterations:
                continue
            logs = {key: float(torch.stack(values).mean()) for key, values in sums.items()}
            now = self._copy(name, done, optimizers)
            if not all(map(math.isfinite, logs.values())) or not self._learnt_is_finite(now):
                self._go_back(good, optimizers)
                raise Diverged(name, done, good["epoch"])
            last = done == iterations
            logs = {"phase": name, "epoch": done, "seconds": time.perf_counter() - started, **logs}
            if review is not None:
                last |= review(logs)
            bar.set_postfix({player.name: f"{logs[player.name]:.4g}" for player in players})
            self._log(logs)
            good = now | {"history": list(self.history)}
            self._save(name, done, optimizers, finished=last)
            if last:
                return
            started, sums = time.perf_counter(), defaultdict(list)

    def shared_stage(self, parts: nn.Module, train: Callable[[], None]) -> None:
        """``train()``, or what another fit saved after the very same stage: the state of ``parts``.

        Whoever comes first trains, holding a lock; the others wait and take the result, the random
        generator and the history over, so that the outcome does not depend on who was first.
        """
        if self.shared is None or self.max_steps is not None:
            train()
            return
        with acquire(self.shared.with_name(f"{self.shared.name}.lock")):
            clear_half_written(self.shared)
            if self._resume is None and self.shared.exists():
                tensors, meta = read_tensors(self.shared)
                self.generator.set_state(tensors.pop("generator"))
                parts.load_state_dict(tensors)
                self.history[:] = meta["history"]
                return
            train()
            if self._resume is None and not self.shared.exists():  # else this fit is resumed from a later phase
                write_tensors(self.shared, {**parts.state_dict(), "generator": self.generator.get_state()},
                              {"history": self.history})

    def finish(self) -> None:
        """Marks the fit as complete, so that fitting again from this checkpoint does no work.

        CheckpointError where the checkpoint was of a phase that this fit does not have.
        """
        if self._resume is not None:
            raise CheckpointError(f"{self.checkpoint} stopped in phase {self._resume['phase']!r}, which this version of "
                                  "the library does not have: delete it to start over")
        self._save("finished", 0, (), finished=True)

    @property
    def finished(self) -> bool:
        """Whether the checkpoint holds a complete fit; its state is then in the module."""
        if self._resume is None or self._resume["phase"] != "finished":
            return False
        self._restore(self._resume)
        return True

    # -- checkpoints -------------------------------------------------------------------------

    def _resume_at(self, name: str, optimizers: Sequence[torch.optim.Optimizer] = ()) -> dict | None:
        """None: skip this phase. An empty dict: start it afresh. Else the state to take it up from.

        ``optimizers`` are those that may go on in the next phase; they are restored though this one be finished.
        """
        if self._resume is None:
            return {}
        if self._resume["phase"] != name:
            return None
        saved, self._resume = self._resume, None
        if saved["finished"]:
            self._restore(saved, optimizers)
            return None
        return saved

    def _save(self, phase: str, epoch: int, optimizers: Sequence[torch.optim.Optimizer], finished: bool) -> None:
        if self.checkpoint is None or self.max_steps is not None:
            return
        if not finished and time.monotonic() - self._saved_at < self.save_every:
            return
        self._write(self._state(phase, epoch, optimizers, finished))

    def _state(self, phase: str, epoch: int, optimizers: Sequence[torch.optim.Optimizer], finished: bool) -> dict:
        """Everything that a checkpoint holds: what is plain JSON, and the tensors themselves under "tensors"."""
        tensors = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        tensors |= {f"kept.{key}": value for key, value in self.kept.items()}
        tensors["generator"] = self.generator.get_state()
        first = 0  # parameters are counted through all optimizers
        for optimizer in optimizers:
            state = optimizer.state_dict()
            for i, values in state["state"].items():
                tensors |= {f"optimizer.{first + i}.{key}": value for key, value in values.items()}
            first += sum(len(group["params"]) for group in state["param_groups"])
        return {"fingerprint": self.fingerprint, **self.machine, "threads": torch.get_num_threads(), "phase": phase, "epoch": epoch,
                "finished": finished, "history": list(self.history), "tensors": tensors}

    def _copy(self, phase: str, epoch: int, optimizers: Sequence[torch.optim.Optimizer]) -> dict:
        """The state as it is now, which later steps don't change."""
        state = self._state(phase, epoch, optimizers, finished=False)
        return state | {"tensors": {key: value.clone() for key, value in state["tensors"].items()}}

    def _learnt_is_finite(self, state: dict) -> bool:
        """Whether every parameter of a state, and what the optimizers keep of it, is finite; a buffer may be NaN."""
        parameters = {f"module.{key}" for key, _ in self.module.named_parameters()}
        return all(bool(v.isfinite().all()) for k, v in state["tensors"].items() if k.startswith("optimizer.") or k in parameters)

    def _go_back(self, good: dict, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """To the last state that was finite, in the module and in the checkpoint."""
        self._restore(good, optimizers)
        self._write(good)

    def _write(self, state: dict) -> None:
        if self.checkpoint is not None and self.max_steps is None:
            write_tensors(self.checkpoint, state["tensors"], {k: v for k, v in state.items() if k != "tensors"})
            self._saved_at = time.monotonic()

    def _read(self) -> dict:
        tensors, meta = read_tensors(self.checkpoint)
        if meta.get("fingerprint") not in (self.fingerprint, *self.same):
            there = {key: meta.get(key, value) for key, value in self.machine.items()}
            if there != self.machine:  # which "auto" leaves to the machine
                raise CheckpointError(
                    "{} was written on {device} in {precision}, ".format(self.checkpoint, **there)
                    + "and this fit is on {device} in {precision}: ".format(**self.machine)
                    + "set device={device!r} and precision={precision!r}, or delete it to start over".format(**there))
            raise CheckpointError(f"{self.checkpoint} was written by a fit with other parameters, data or random_state, "
                                  "or by another version of genclust: delete it, or name another checkpoint")
        return {**meta, "tensors": tensors}

    def _restore(self, saved: dict, optimizers: Sequence[torch.optim.Optimizer] = ()) -> int:
        """Puts a saved state back; returns the number of epochs that it has behind it."""
        tensors = saved["tensors"]
        self.module.load_state_dict({k.removeprefix("module."): v for k, v in tensors.items()
                                     if k.startswith("module.")})
        self.kept = {k.removeprefix("kept."): v.to(self.X.device) for k, v in tensors.items() if k.startswith("kept.")}
        self.generator.set_state(tensors["generator"])
        self.history[:] = saved["history"]
        state: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, i, name = key.split(".")
                state[int(i)][name] = value
        first = 0
        for optimizer in optimizers:
            fresh = optimizer.state_dict()
            n = sum(len(group["params"]) for group in fresh["param_groups"])
            optimizer.load_state_dict({**fresh, "state": {i: state[first + i] for i in range(n) if first + i in state}})
            first += n
        return saved["epoch"]


def plain(value: np.generic | np.ndarray) -> object:
    """Numpy numbers and arrays as JSON takes them; TypeError for anything else."""
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"{value!r} can't be kept with a fit: only numbers, strings, lists and arrays can, be it as a parameter or as "
                        "what a callback adds to its logs")
    return array.tolist()


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict) -> None:
    """Tensors and JSON metadata in one safetensors file, written whole or not at all."""
    with replacing(path) as temporary:
        try:
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, temporary,
                      {"meta": json.dumps(meta, default=plain)})
        except SafetensorError as error:  # says in words what the system said in a number
            raise OSError(errno.ENOSPC if "space" in str(error) else errno.EIO, str(error)) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What :func:`write_tensors` wrote. CheckpointError where the file is damaged.

    The file is opened once: another process may put a new one in its place meanwhile.
    """
    content = path.read_bytes()
    try:
        tensors = load(content)
        header = json.loads(content[8: 8 + int.from_bytes(content[:8], "little")])
        return tensors, json.loads(header["__metadata__"]["meta"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): delete it to start over") from error


class DeepEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The scikit-learn face of a deep method.

    A subclass gives ``_build(n_features, generator)``, the module, and ``_phases(trainer)``, the
    fit; :meth:`fit` does the rest. Labels are never looked at: ``y`` exists because scikit-learn
    passes it.
    """

    _pretraining: tuple[str, ...] = ()  # the parameters that decide the layers which Trainer.shared_stage trains

    # -- what a subclass gives -----------------------------------------------------------------

    def _build(self, n_features: int, generator: torch.Generator) -> nn.Module:
        raise NotImplementedError

    def _phases(self, trainer: Trainer) -> None:
        raise NotImplementedError

    def _validate_params(self) -> None:
        """Raises ValueError for parameters that can't work with any data. A pipeline asks before it trains earlier steps."""
        super()._validate_params()
        for name in ("hidden", "critic_hidden", "image_shape"):
            sizes = getattr(self, name, None)
            if sizes is not None and (np.ndim(sizes) > 1 or not all(isinstance(size, Integral) and size > 0 for size in np.ravel(sizes))):
                raise ValueError(f"{name}={sizes!r}: give whole numbers above 0")
        resolve_device(self.device)

    def _check_size(self, n: int) -> None:
        """Raises ValueError for a number of rows that the chosen parameters can't model. A pipeline asks, too."""
        if getattr(self, "n_clusters", 1) > n:
            raise ValueError(f"n_clusters={self.n_clusters} is more than n_samples={n}: lower n_clusters")

    def _check_data(self, X: np.ndarray) -> None:
        """Raises ValueError for data that the chosen parameters can't model."""

    def _generator(self, seed: int, device: torch.device) -> Source:
        return torch.Generator(device).manual_seed(seed)

    def _conclude(self, X: Tensor) -> None:
        """Sets the fitted attributes once the module is trained."""

    # -- fitting -------------------------------------------------------------------------------

    def fit(self, X, y=None, *, callback: Callback | None = None, checkpoint: str | Path | None = None,
            cache: str | Path | None = None, max_steps: int | None = None):
        """Fit to ``X``, (n_samples, n_features). What was fitted before is gone as soon as a fit begins, even one that is refused.

        Parameters
        ----------
        callback : called as ``callback(estimator, phase, epoch, logs)`` after every epoch; what it
            adds to ``logs`` ends up in ``history_``.
        checkpoint : file (safetensors) that the fit saves to about twice a minute and resumes from, on as many threads as
            it began with. Give ``random_state`` a number: a fit with another seed is another one.
            With ``n_restarts`` > 1 each restart has a file of its own beside it. Another version of this package refuses it.
        cache : folder in which pretrained layers are kept and found: estimators with the same layers,
            pretraining, seed and data train them once, by the same version of this package. The result is the same without it,
            but that the history of these layers has what the callback of the fit that trained them added.
        max_steps : end every phase after so many optimizer steps; their losses are kept in
            ``step_losses_``. This is how a recorded run is replayed.

        Raises
        ------
        ValueError : for data or parameters that can't work, before any work is done.
        OSError : for a checkpoint that can't be written, before any work is done where its folder shows it.
        FloatingPointError : when the loss stops being finite, and the estimator is then not fitted; Diverged, a kind of it,
            where an adversarial phase or HRWAE-GAN's training does, with the estimator usable in the last finite state. Of several restarts
            one that fails is left out, with a warning.
        CheckpointError : when the checkpoint is damaged or belongs to another fit, or to another version of this package.
        """
        with torch.inference_mode(False), torch.enable_grad(), without_autocast():  # whatever the caller has switched on or off
            return self._fit(X, callback, checkpoint, cache, max_steps)

    def _fit(self, X, callback: Callback | None, checkpoint: str | Path | None, cache: str | Path | None, max_steps: int | None):
        self._forget()
        self._validate_params()
        if max_steps is not None and (not isinstance(max_steps, Integral) or max_steps < 1):
            raise ValueError(f"max_steps={max_steps!r}: use a whole number, 1 or more, or None for the whole fit")
        check_default_dtype()
        X = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        self._check_size(len(X))
        # What is read once the fit is done: a parameter that is set meanwhile is for the next one
        self.fitted_with_ = SimpleNamespace(**self.get_params(deep=False))
        self._check_data(X)
        self.device_ = resolve_device(self.device)
        dtype = resolve_precision(self.precision, self.device_)
        self.precision_ = str(dtype).removeprefix("torch.")
        data = as_tensor(X).to(self.device_)
        first_seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        checkpoint = None if checkpoint is None else Path(checkpoint)
        if checkpoint is not None and not checkpoint.is_file():  # one that is there was written; a finished one is only read
            check_writable(checkpoint)
        if checkpoint is not None and self.random_state is None:
            warnings.warn(f"random_state=None: every fit draws its own seed, so that no other one can go on from {checkpoint}. "
                          "Give random_state a number", RuntimeWarning, stacklevel=3)

        best, failed, threads = None, None, torch.get_num_threads()
        for restart in range(self.n_restarts):
            seed = nth_seed(first_seed, restart)
            file = checkpoint
            if checkpoint is not None and restart:
                file = checkpoint.with_name(f"{checkpoint.stem}.{restart}{checkpoint.suffix}")
            try:
                self._fit_once(data, seed, dtype, callback, file, cache and Path(cache), max_steps)
            except FloatingPointError as error:  # another start may end well
                failed = error
                continue
            finally:
                torch.set_num_threads(threads)
            if best is None or self.objective_ > best["objective_"]:
                best = {k: v for k, v in vars(self).items() if k.endswith("_")}
        if best is None:
            raise failed
        if failed is not None:
            warnings.warn(f"a restart failed and is left out: {failed}", RuntimeWarning, stacklevel=3)
        vars(self).update(best)
        return self

    def _forget(self) -> None:
        """Removes what was fitted: all whose name ends in an underscore."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _fit_once(self, X: Tensor, seed: int, dtype: torch.dtype, callback, checkpoint, cache, max_steps) -> None:
        self.seed_ = seed
        module = self._build(X.shape[1], torch.Generator().manual_seed(seed)).to(X.device)
        # What "auto" came to on one machine may be asked for by its name on another
        own, same = (self._fingerprint(X, seed, precision=p) if checkpoint else "" for p in
                     (self.precision, self.precision_ if self.precision == "auto" else "auto"))
        trainer = Trainer(self, module, X, generator=self._generator(seed, X.device), dtype=dtype, callback=callback,
                          checkpoint=checkpoint, fingerprint=own, same=[same], max_steps=max_steps)
        if cache:  # named only now: by the threads that the fit goes on with
            trainer.shared = cache / f"{self._fingerprint(X, seed, self._pretraining)[:16]}.safetensors"
        self.history_, self.step_losses_ = trainer.history, trainer.step_losses
        self.threads_ = torch.get_num_threads()
        self.module_, diverged = module, None
        try:
            try:
                if not trainer.finished:
                    self._phases(trainer)
                    trainer.finish()
            except Diverged as error:
                diverged = error
            module.eval()
            try:
                self._conclude(X)
            except Exception as error:
                if diverged is None:
                    raise
                raise FloatingPointError(f"{diverged}; and nothing can be made of that state: {error}") from error
            if diverged is None and max_steps is None and not math.isfinite(self.objective_):
                raise FloatingPointError(f"the fit ended with an objective of {self.objective_}: "
                                         "lower learning_rate, or look for extreme values in X")
        except BaseException:
            del self.module_  # half-trained, it would predict all the same
            raise
        if diverged is not None:
            raise diverged

    def _fingerprint(self, X: Tensor, seed: int, names: Sequence[str] | None = None, **given) -> str:
        """Names this fit: version, parameters that change its result (or those in ``names``), precision, seed and data.
        ``given`` are parameters as they are spelled here."""
        unused = ("verbose", "random_state", "n_restarts", "device")
        kept = {key: getattr(self, key) for key in (names or sorted(set(self.get_params()) - set(unused)))} | given
        who = "" if names else type(self).__name__
        threads = torch.get_num_threads() if names else "as it began"  # layers that others share are those of so many threads
        text = json.dumps([__version__, who, kept, self.precision_, X.device.type, threads, seed, list(X.shape)],
                          default=plain, sort_keys=True)
        return hashlib.sha256(text.encode() + X.cpu().numpy().tobytes()).hexdigest()

    # -- using ---------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def _rows(self, X) -> Tensor:
        """Checked rows on the fitted device, (n, d) float32."""
        check_is_fitted(self)
        check_default_dtype()
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return as_tensor(X).to(self.device_)

    @torch.no_grad()
    @without_autocast()
    def _map(self, function: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
        """``function`` over X in pieces, in float32 whatever the precision of training."""
        return torch.cat([function(piece) for piece in X.split(EVAL_BATCH)])

    def _draws(self, random_state, n_samples: int = 1) -> torch.Generator:
        """A generator on the fitted device for so many samples; the fit's own seed where none is given."""
        check_is_fitted(self)
        check_default_dtype()
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r}: use a whole number, 1 or more")
        seed = self.seed_ if random_state is None else int(check_random_state(random_state).randint(2**31 - 1))
        return torch.Generator(self.device_).manual_seed(seed)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def check_default_dtype() -> None:
    """RuntimeError where torch makes tensors of another type than the float32 of these models."""
    if torch.get_default_dtype() != torch.float32:
        raise RuntimeError(f"torch's default is {torch.get_default_dtype()}, and these models are float32: "
                           "call torch.set_default_dtype(torch.float32)")


def as_tensor(X: np.ndarray) -> Tensor:
    """An array as a tensor on its own memory, where it is in order. Read-only memory, such as joblib's, will do: nothing here
    writes to its data, so that torch's warning says nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(X))


def in_unit_interval(X: np.ndarray) -> bool:
    """Whether all of X is in [0, 1], but for rounding: scaled to it in float32, it may stick out by a few last digits."""
    return bool(X.min() >= -1e-5 and X.max() <= 1 + 1e-5)


def check_index(name: str, value, n: int) -> None:
    """ValueError where the argument of this name is none of the whole numbers from 0 to n - 1."""
    if not isinstance(value, Integral) or not 0 <= value < n:
        raise ValueError(f"{name}={value!r} does not exist: use 0 to {n - 1}")


def nth_seed(first: int, i: int) -> int:
    """The seed of restart or replica i of a fit whose first has the seed ``first``."""
    return (first + i * 7919) % (2**31 - 1)


def exponential_decay(rate: float, factor: float = 1.0, every: int = 10, floor: float = 0.0) -> Callable[[int], float]:
    """``rate * factor^(epoch // every)``, never under ``floor`` (or ``rate``, if that is lower)."""
    return lambda epoch: max(rate * factor ** (epoch // every), min(rate, floor))
