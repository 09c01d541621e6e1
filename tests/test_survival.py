"""Faults, tried for real: processes are killed, disks filled, files cut and edited.

Every test's docstring is the fault, and what it notes with ``fault`` the outcome: together they are the
table on the book's page (`make faults`). A run that went through a fault has to end with the very bits
of one that did not.
"""

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from genclust.base import CheckpointError, read_tensors
from genclust.lab.experiments import make_specs
from genclust.lab.records import Record, RecordError, RecordStore
from genclust.lab.runner import execute

ROOT = Path(__file__).resolve().parents[1]
KILLS = 30
EPOCHS, LONG = 20, 200  # of a run that takes about a second, and of one that is easily caught half-way
# pretraining and the mixture share a short run about evenly, so that random moments meet both; EM would be a quarter of it
FEWER, ROWS = dict(pretrain_epochs=8, init="kmeans"), 400


def spec(epochs=EPOCHS, **changes):
    return make_specs("vade/digits", profile="smoke", methods=["vade"], epochs=epochs, n_samples=ROWS, **FEWER, **changes)[0]


def result(record: Record) -> dict:
    """What has to be the same, to the bit."""
    return {"metrics": record.metrics, "objective": record.objective, "arrays": record.arrays, "replay": record.replay,
            "history": [{k: v for k, v in h.items() if k != "seconds"} for h in record.history]}


def run(folder: Path, epochs: int = EPOCHS) -> None:
    """One run, in a process of its own that saves after every epoch."""
    import torch

    from genclust.base import Trainer
    torch.set_num_threads(1)
    Trainer.__init__.__kwdefaults__["save_every"] = 0.0
    execute(spec(epochs), RecordStore(folder / "records"), folder / "work")


@pytest.fixture(scope="module")
def forks():
    """Starts processes that have imported everything: killing one costs no more than the run."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before the server starts
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["genclust.lab.runner", "genclust.vade", "genclust.lab.replay", "genclust.metrics",
                                    "sklearn.mixture", "sklearn.datasets", "torch._dynamo", "torch._inductor.config", "genclust.lab.cli"])
    return context


@pytest.fixture(scope="module")
def whole(forks, tmp_path_factory):
    """An uninterrupted run: its record and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    record = run_to_the_end(forks, folder)
    return record, record.provenance.wall_seconds


@pytest.fixture(scope="module")
def long(forks, tmp_path_factory):
    """An uninterrupted long run."""
    return run_to_the_end(forks, tmp_path_factory.mktemp("long"), epochs=LONG)


def run_to_the_end(forks, folder: Path, epochs: int = EPOCHS) -> Record:
    process = forks.Process(target=run, args=(folder, epochs))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    return RecordStore(folder / "records").get(spec(epochs))


def project(folder: Path) -> dict:
    """The environment of a command that works in a checkout of its own."""
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    (folder / "_toc.yml").touch()
    return os.environ | {"GENCLUST_PROJECT": str(folder), "GENCLUST_WORK": str(folder / "work"), "OMP_NUM_THREADS": "1",
                         "OPENBLAS_NUM_THREADS": "1",
                         "PYTHONWARNINGS": "ignore"}


def _genclust(words: list[str], environment: dict, out: Path, err: Path) -> None:
    """What `genclust ...` does, in a process that has imported everything already."""
    from genclust.lab.cli import main
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        with open(path, "w") as file:
            os.dup2(file.fileno(), stream.fileno())
    # whoever runs the tests in the background has Ctrl-C ignored, and hands that down
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    sys.argv = ["genclust", *words]
    main()


class Command:
    """`genclust ...` in a process of its own."""

    def __init__(self, forks, folder: Path, *words: str):
        self.out, self.err = (folder / f"{name}-{time.monotonic_ns()}.txt" for name in ("out", "err"))
        self.process = forks.Process(target=_genclust, args=([*words], project(folder), self.out, self.err))
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self, code: int = 0) -> tuple[str, str]:
        """Its output and error streams, when it has ended with this exit code."""
        self.process.join(180)
        said = self.out.read_text(), self.err.read_text()
        assert self.process.exitcode == code, said
        return said


@pytest.fixture(scope="module")
def command(forks):
    """``command(folder, *words)`` starts `genclust run` of the spec, with more words."""
    def start(folder: Path, *words: str, epochs: int = EPOCHS) -> Command:
        return Command(forks, folder, "run", "vade/digits", "--profile", "smoke", "--method", "vade", "-p", f"epochs={epochs}",
                       "--n-samples", str(ROWS), *(f"-p{key}={value}" for key, value in FEWER.items()), "--records", str(folder / "records"), *words)
    return start


def ended(process: Command, code: int = 0) -> str:
    """What a command said on its error stream, without the progress bars."""
    _, said = process.ended(code)
    return "\n".join(line for line in said.replace("\r", "\n").splitlines() if line.startswith("genclust: ") or "  vade/" in line)


def wait_for(condition, process: Command | None = None, seconds: float = 120):
    """Until ``condition()`` holds, and what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        assert process is None or process.poll() is None, process.err.read_text()
        time.sleep(0.02)
    return found


def training(folder: Path):
    """Whether the run's checkpoint says that its mixture has started."""
    try:
        return any(read_tensors(p)[1]["phase"] in ("mixture", "vade") for p in (folder / "work").glob("vade*.safetensors"))
    except (CheckpointError, FileNotFoundError):  # it was replaced between two looks
        return False


# -- killed ------------------------------------------------------------------------------------------


def test_killed_at_random_moments(forks, whole, tmp_path, fault):
    """`kill -9` of a run, at 30 random moments"""
    record, seconds = whole
    rng, hits, phases = random.Random(0), 0, set()
    for i in range(2 * KILLS):
        folder = tmp_path / str(i)
        process = forks.Process(target=run, args=(folder,))
        process.start()
        wait_for(lambda: (folder / "work").exists())
        began = time.monotonic()
        process.join(rng.uniform(0, seconds))
        if process.exitcode is not None:  # it was faster than the first, which met cold caches
            seconds = min(seconds, time.monotonic() - began)
        process.kill()
        process.join()
        hits += process.exitcode == -signal.SIGKILL  # else it was done already
        for path in (folder / "work").glob("*.safetensors"):
            phases.add(read_tensors(path)[1]["phase"])  # whatever is there is whole
        list(RecordStore(folder / "records").all())
        again = run_to_the_end(forks, folder)
        assert result(again) == result(record), f"kill {i}"
        assert not list(folder.rglob(".*.[0-9]*")), "a half-written file was left"
        if hits == KILLS:
            break
    assert hits == KILLS and len(phases) >= 3, "the moments did not hit the runs"
    fault(f"{hits} runs killed, with checkpoints of {len(phases)} different phases; taken up again, all {hits} end bit-identical "
          "to the uninterrupted run, and no half-written file is left")


def test_interrupted_from_the_keyboard(command, long, tmp_path, fault):
    """Ctrl-C (SIGINT) while a run trains"""
    process = command(tmp_path, epochs=LONG)
    wait_for(lambda: training(tmp_path), process)
    process.send_signal(signal.SIGINT)
    said = ended(process, code=130)
    assert "the same command goes on" in said, said
    assert not list((tmp_path / "records").rglob("*.json"))
    ended(command(tmp_path, epochs=LONG))
    again = RecordStore(tmp_path / "records").get(spec(LONG))
    assert again.provenance.resumed == 1 and result(again) == result(long)
    fault(f"“{said}”; resumed, bit-identical")


def test_two_runners_on_one_spec(forks, whole, tmp_path, fault):
    """Two runners on the same spec at once"""
    two = [forks.Process(target=run, args=(tmp_path,)) for _ in range(2)]
    for process in two:
        process.start()
    for process in two:
        process.join(120)
    assert [p.exitcode for p in two] == [0, 0]
    (record,) = RecordStore(tmp_path / "records").all()
    assert record.provenance.resumed == 0 and result(record) == result(whole[0])
    fault("one ran, the other waited and took its record; one record, bit-identical")


# -- disks and files -----------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, *options: str):
    """A small file system of its own at ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(command, whole, tmp_path, fault):
    """The disk is full (a tmpfs of 256 kB) when a checkpoint is written"""
    with mounted(tmp_path / "work", "size=256k"):
        filler = tmp_path / "work" / "filler"
        filler.write_bytes(bytes(200_000))
        said = ended(command(tmp_path), code=1)
        assert "the disk is full: free some space" in said and "safetensors" in said
        assert not list((tmp_path / "records").rglob("*.json"))
        assert not list((tmp_path / "work").rglob(".*.[0-9]*"))
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path / "work")], check=True)
        ended(command(tmp_path))
    assert result(RecordStore(tmp_path / "records").get(spec())) == result(whole[0])
    fault("refused with “the disk is full: free some space, and give the same command again” and the file's name; "
          "nothing half-written; with space again, bit-identical")


def test_a_full_disk_for_records(command, whole, tmp_path, fault):
    """The disk is full when the record is written"""
    with mounted(tmp_path / "records", "size=4k"):
        said = ended(command(tmp_path), code=1)
        assert "the disk is full" in said and not list((tmp_path / "records").rglob("*.*"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path / "records")], check=True)
        ended(command(tmp_path))
        again = RecordStore(tmp_path / "records").get(spec())
    assert again.provenance.resumed == 1 and result(again) == result(whole[0])
    fault("a clear error, no record and no half of one; the finished fit was kept, so the second call only wrote it down, "
          "bit-identical")


def test_a_read_only_work_folder(command, tmp_path, fault):
    """The folder for checkpoints is on a read-only file system"""
    with mounted(tmp_path / "work", "ro"):
        said = ended(command(tmp_path), code=1)
    assert "read-only" in said and str(tmp_path / "work") in said and not (tmp_path / "records").exists()
    fault("refused before any work, naming the folder and the mend")


def test_a_read_only_cache(tmp_path, fault):
    """The data cache is on a read-only file system, empty and then filled"""
    cache, data = tmp_path / "cache", tmp_path / "data"
    words = [sys.executable, "-m", "genclust.lab.cli", "data"]
    environment = project(tmp_path) | {"GENCLUST_CACHE": str(cache)}

    def fetch():
        return subprocess.run([*words, "fetch", "mnist"], env=environment | {"GENCLUST_DATA": str(data)}, capture_output=True,
                              text=True, timeout=120)

    with mounted(cache, "size=100m"):
        from genclust.datasets import fetch as fetch_here
        source = fetch_here("mnist")  # from this machine's own cache
        subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
        data.symlink_to(source.parent if source.is_file() else source)
        done = fetch()
        assert done.returncode == 1 and "GENCLUST_CACHE" in done.stderr and "Traceback" not in done.stderr, done.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(cache)], check=True)
        assert fetch().returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
        again = subprocess.run([*words, "verify", "mnist"], env=environment, capture_output=True, text=True, timeout=120)
        assert again.returncode == 0, again.stderr + again.stdout
    fault("empty: refused, naming the folder and GENCLUST_CACHE; filled: read as usual")


@pytest.mark.parametrize("keep", [0.5])
def test_a_truncated_checkpoint(forks, whole, tmp_path, fault, keep):
    """A checkpoint that is cut in half"""
    process = forks.Process(target=run, args=(tmp_path,))
    process.start()
    wait_for(lambda: training(tmp_path))
    process.kill()
    process.join()
    (checkpoint,) = (tmp_path / "work").glob("vade*.safetensors")
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(keep * len(content))])
    again = run_to_the_end(forks, tmp_path)
    assert result(again) == result(whole[0]) and checkpoint.with_suffix(".damaged").exists()
    fault("seen, set aside as .damaged, and the run started over: bit-identical")


def test_an_edited_record(forks, whole, tmp_path, fault):
    """A record edited by hand (a better accuracy), and one cut short"""
    store = RecordStore(tmp_path / "records")
    store.put(whole[0].model_copy(update={"arrays": None}))
    path = store.path(spec())
    text = path.read_text()
    for changed in (text.replace(f'"accuracy": {whole[0].metrics["accuracy"]}', '"accuracy": 0.9406', 1), text[: len(text) // 2]):
        assert changed != text
        path.write_text(changed)
        with pytest.raises(RecordError, match="not as its run wrote it"):
            store.get(spec())
        for words in (["status"], ["verify"], ["show", spec().id]):
            hidden = words == ["status"] and changed == text[: len(text) // 2]  # its head is whole, and all that is shown
            said = Command(forks, tmp_path, *words, "--records", str(store.root)).ended(0 if hidden else 1)
            assert hidden or "not as its run wrote it" in "".join(said), words
    fault("refused wherever it is read, with its file's name and the mend; a listing reads heads only, and shows the one "
          "that was cut behind its head, which is as its run wrote it")


def test_a_loss_that_stops_being_finite(command, tmp_path, fault):
    """The loss becomes NaN (a learning rate of 1e30)"""
    said = ended(command(tmp_path, "-p", "learning_rate=1e30", epochs=3), code=1)
    assert "lower learning_rate" in said and "phase 'vade'" in said
    assert not list((tmp_path / "records").rglob("*.json"))
    fault("stopped after the epoch, naming phase, epoch and rate, and what to change; no record")


# -- the cluster ---------------------------------------------------------------------------------------


@contextmanager
def cluster(folder: Path, port: int):
    """`dask scheduler` and `dask worker`, as their documentation says; one worker, with its nanny."""
    address, environment = f"tcp://127.0.0.1:{port}", project(folder)
    log = open(folder / f"cluster-{time.monotonic():.0f}.log", "w")
    dask = str(Path(sys.executable).with_name("dask"))
    options = dict(env=environment, stdout=log, stderr=log, cwd=folder)
    processes = [subprocess.Popen([dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"], **options),
                 subprocess.Popen([dask, "worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard",
                                   "--local-directory", str(folder / "dask")], **options)]
    try:
        yield address, *processes
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def worker_of(nanny: subprocess.Popen) -> int:
    """The process id of the nanny's worker."""
    import psutil
    return next(p.pid for p in psutil.Process(nanny.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline()))


def test_a_cluster_worker_killed(command, long, tmp_path, fault):
    """`kill -9` of a Dask worker in the middle of a run"""
    with cluster(tmp_path, free_port()) as (address, _, nanny):
        process = command(tmp_path, "--scheduler", address, epochs=LONG)
        wait_for(lambda: training(tmp_path), process)
        os.kill(worker_of(nanny), signal.SIGKILL)
        ended(process)
    again = RecordStore(tmp_path / "records").get(spec(LONG))
    assert again.provenance.resumed == 1 and result(again) == result(long)
    fault("its nanny starts another, which takes the run up from its checkpoint; the record that comes back is bit-identical "
          "to a local one")


def test_the_scheduler_killed(command, long, tmp_path, fault):
    """`kill -9` of the Dask scheduler in the middle of a run"""
    port = free_port()
    with cluster(tmp_path, port) as (address, scheduler, _):
        process = command(tmp_path, "--scheduler", address, epochs=LONG)
        wait_for(lambda: training(tmp_path), process)
        scheduler.kill()
        said = ended(process, code=1)
        assert "was lost" in said and "same command" in said
    restarted = datetime.now(timezone.utc)
    time.sleep(1)  # the start is noted in whole seconds
    with cluster(tmp_path, port) as (address, *_):
        ended(command(tmp_path, "--scheduler", address, epochs=LONG))
    again = RecordStore(tmp_path / "records").get(spec(LONG))
    assert datetime.fromisoformat(again.provenance.started) < restarted, "what was done before was lost"
    assert result(again) == result(long)
    fault("the command ends with “the scheduler was lost” and what to do; with a new scheduler the same command fetches what "
          "the worker had finished, or takes the run up: bit-identical")


def test_no_scheduler_answers(command, tmp_path):
    process = command(tmp_path, "--scheduler", f"tcp://127.0.0.1:{free_port()}")
    assert "start one with `dask scheduler`" in ended(process, code=1)


def test_the_book_lists_the_faults_that_are_tried_here():
    """`make faults` writes the table anew."""
    listed = json.loads((ROOT / "book" / "faults.json").read_text())["faults"]
    tried = {name: f.__doc__.strip() for name, f in globals().items()
             if name.startswith("test_") and "fault" in f.__code__.co_varnames[: f.__code__.co_argcount]}
    assert {row["test"]: row["fault"] for row in listed} == tried
