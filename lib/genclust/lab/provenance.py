"""Where a number comes from: the code, the data and the machine."""

from __future__ import annotations

import ast
import platform
import re
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path

from .files import sha256

LIBRARY = Path(__file__).resolve().parents[1]


def imported_files(module: str) -> list[Path]:
    """The library's own files that ``genclust.<module>`` reaches by import, itself included."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        path = LIBRARY / name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if path in found or not path.exists():
            continue
        found.add(path)
        here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]  # the package that "." is
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = here[: len(here) + 1 - node.level]
                target = ".".join(base + ([node.module] if node.module else []))
                waiting += [target] if node.module else [f"{target}.{a.name}".lstrip(".") for a in node.names]
    return sorted(found)


@cache
def library_digest(module: str | None) -> str:
    """Digest of the files behind a method; of scikit-learn's version where it has no module of ours."""
    if module is None:
        import sklearn
        return sha256(f"scikit-learn {sklearn.__version__}")[:16]
    return sha256("".join(f"{p.relative_to(LIBRARY)} {sha256(p)}\n" for p in imported_files(module)))[:16]


@cache
def git_state() -> tuple[str, bool]:
    """The commit that the code is at, and whether files that git tracks differ from it; ("", True) outside git."""
    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(LIBRARY), *words], capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""
    try:
        commit = git("rev-parse", "HEAD")
        return commit, not commit or bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", "../../constraints.txt"))
    except (OSError, subprocess.TimeoutExpired):
        return "", True


@cache
def processor() -> str:
    """The processor's own name, and the widest vector instructions that torch uses on it.

    A hypervisor may hide the model ("AMD EPYC" is any of four generations), and times then differ by twice and more.
    """
    import torch
    return f"{_model()}, {torch.backends.cpu.get_cpu_capability()}"


def _model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def reset_peak_memory() -> None:
    """Lets :func:`peak_memory_mb` count from now, where the system can do that (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_memory_mb() -> float:
    """The largest resident size of this process, in MB (10^6 bytes), since its start or the last reset."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return round(int(found[1]) * 1024 / 1e6, 1)
    except (OSError, TypeError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)
