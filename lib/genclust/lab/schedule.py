"""Many runs: one after another, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from joblib import cpu_count
from tqdm.auto import tqdm

from ..files import check_writable
from .files import work_folder
from .papers import METHODS
from .provenance import library_digest
from .records import Record, RecordStore
from .runner import execute
from .specs import Spec

TOPIC = "genclust"  # of the events that cluster workers send
CONNECT_SECONDS = 15
Show = Callable[[str, str, int], None]  # a spec's id, phase, epoch
Pool = tuple[Callable[[Spec], Future], Callable[..., Record]]  # submit a spec; make a record of the future's result


class ClusterError(RuntimeError):
    """A Dask cluster that can't be used as it is, or was lost."""


def run_all(specs: Sequence[Spec], store: RecordStore, work: Path, *, workers: int = 1, scheduler: str | None = None,
            force: bool = False, same_code: bool = False) -> list[Record]:
    """The records of many specs, in order, with a progress bar for each run that is under way.

    With several workers each run has a process, and an equal share of the cores, to itself. With
    ``scheduler``, the address of a Dask scheduler, the runs are made by its workers instead. The first
    failure is raised after the other runs have ended; what they recorded stays.
    """
    options = dict(force=force, same_code=same_code)
    records: dict[str, Record] = {}
    failures: list[tuple[Spec, BaseException]] = []

    def settle(spec: Spec, result: Callable[[], Record]) -> None:
        try:
            records[spec.id] = result()
        except Exception as error:
            failures.append((spec, error))
        bars.ended(spec.id)

    specs = list({spec.id: spec for spec in specs}.values())
    with _Bars(specs) as bars:
        if scheduler is None and workers <= 1:
            for spec in specs:
                settle(spec, lambda: execute(spec, store, work, progress=lambda p, e: bars.show(spec.id, p, e), **options))
        else:
            pool = (_cluster(scheduler, store, bars.show, **options) if scheduler
                    else _processes(workers, store, work, bars.show, **options))
            with pool as (submit, finish):
                futures = {submit(spec): spec for spec in specs}
                for future in as_completed(futures):
                    settle(futures[future], lambda: finish(future.result()))
    if failures:
        text = "\n".join(f"  {spec}: {_reason(e)}" for spec, e in failures)
        refused = all(isinstance(error, ValueError) for _, error in failures)
        hint = "" if refused else "; the same command takes up what is unfinished"
        raise RuntimeError(f"{len(failures)} of {len(specs)} runs failed{hint}:\n{text}") from failures[0][1]
    return [records[spec.id] for spec in specs]


def _reason(error: BaseException) -> str:
    if isinstance(error, BrokenProcessPool):
        return "a process was killed (out of memory?), and the runs of this command with it"
    if isinstance(error, CancelledError):
        return "the scheduler was lost: start it and its workers again"
    return f"{type(error).__name__}: {error}"


class _Bars:
    """Progress: one bar over all runs, and one, by epochs, for each that is under way."""

    def __init__(self, specs: Sequence[Spec]):
        self.specs = {spec.id: spec for spec in specs}
        self.bars: dict[str, tqdm] = {}
        self.plans: dict[str, dict[str, int]] = {}

    def __enter__(self) -> _Bars:
        self.overall = tqdm(total=len(self.specs), desc="runs", unit="run")
        return self

    def show(self, spec_id: str, phase: str, epoch: int) -> None:
        """Puts a run's bar at an epoch of a phase; phases that were taken over count as done."""
        spec = self.specs[spec_id]
        if spec_id not in self.bars:
            method = METHODS[spec.method]
            self.plans[spec_id] = method.planned_epochs(method.make(spec.seed, **spec.params))
            self.bars[spec_id] = tqdm(total=sum(self.plans[spec_id].values()), unit="epoch", leave=False)
        bar, plan = self.bars[spec_id], self.plans[spec_id]
        before = list(plan)[: list(plan).index(phase)]
        bar.set_description(f"{spec.experiment} {spec.method} s{spec.seed} {phase}", refresh=False)
        bar.update(sum(plan[name] for name in before) + epoch - bar.n)

    def ended(self, spec_id: str) -> None:
        if bar := self.bars.pop(spec_id, None):
            bar.close()
        self.overall.update()

    def __exit__(self, *_) -> None:
        for bar in (*self.bars.values(), self.overall):
            bar.close()


# -- processes of this machine -----------------------------------------------------------------------


@contextmanager
def _processes(workers: int, store: RecordStore, work: Path, show: Show, **options) -> Iterator[Pool]:
    context = multiprocessing.get_context("spawn")
    threads = max(1, cpu_count() // workers)
    with context.Manager() as manager:
        events = manager.Queue()
        listener = Thread(target=lambda: [show(*event) for event in iter(events.get, None)], daemon=True)
        listener.start()
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(threads, events))
        try:
            yield lambda spec: pool.submit(_in_process, spec, store.root, work, options), lambda record: record
        except KeyboardInterrupt:
            for process in pool._processes.values():  # they would finish their runs first; these are resumable
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            events.put(None)
            listener.join()


def _begin(threads: int, events) -> None:
    """Once in every process."""
    global _events
    import torch
    torch.set_num_threads(threads)
    _events = events


def _in_process(spec: Spec, root: Path, work: Path, options: dict) -> Record:
    return execute(spec, RecordStore(root), work, progress=lambda p, e: _events.put((spec.id, p, e)), **options)


# -- a Dask cluster ----------------------------------------------------------------------------------


@contextmanager
def _cluster(address: str, store: RecordStore, show: Show, **options) -> Iterator[Pool]:
    """Runs on the workers of a Dask scheduler; their records come back and are written to ``store`` here."""
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ModuleNotFoundError:
        raise ModuleNotFoundError("distributed is not installed", name="distributed") from None
    try:
        get_address_host_port(address)
    except ValueError as error:  # a client that it was given to would hang for half a minute once it is thrown away
        raise ValueError(f"the scheduler {address!r} is no address ({error}): give tcp://host:port, as `dask scheduler` shows it") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler` and "
                           "workers with `dask worker ADDRESS --nworkers N --nthreads 1`") from error
    with client:
        client.subscribe_topic(TOPIC, lambda event: show(*event[1]))
        pool = client.get_executor(pure=False)

        def submit(spec: Spec) -> Future:
            if not any(options.values()) and (found := store.get(spec)) is not None:
                done: Future = Future()
                done.set_result(found)
                return done
            check_writable(store.path(spec))
            return pool.submit(_on_worker, spec.model_dump(), library_digest(METHODS[spec.method].module), options["force"])

        yield submit, lambda made: made if isinstance(made, Record) else store.adopt(*made)


def _on_worker(spec: dict, library: str, force: bool) -> tuple[bytes, bytes | None]:
    """On a worker of the cluster: the files of the spec's record. What it made before, it does not make again."""
    from distributed import get_worker

    worker, spec = get_worker(), Spec.model_validate(spec)
    if worker.state.nthreads != 1:
        raise ClusterError(f"worker {worker.address} runs {worker.state.nthreads} tasks at once in threads: start it "
                           "with --nthreads 1 (and --nworkers for more)")
    if library_digest(METHODS[spec.method].module) != library:
        raise ClusterError(f"worker {worker.address} has another version of genclust's {spec.method}: install the "
                           "same on every machine")
    work = work_folder()
    store = RecordStore(work / "records")
    record = execute(spec, store, work, force=force, same_code=True,
                     progress=lambda p, e: worker.log_event(TOPIC, (spec.id, p, e)))
    path = store.path(spec)
    return path.read_bytes(), path.with_suffix(".npz").read_bytes() if record.arrays else None
