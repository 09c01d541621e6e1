"""Entropic transport against POT, geomloss and OTT-JAX, to the same marginal error, in one run.

Writes book/transport_bench.json, which the chapter shows. Every solver gets float64, the same cost matrix
and uniform weights, and its best setting: POT in the exponential and the logarithmic domain, OTT compiled,
in both. A solver is given more iterations, doubled each time, until the L1 error of its marginals is below
the tolerance or a run has taken longer than LIMIT; then its time is a lower bound.
"""

import json
import math
import os
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch

from genclust.lab.plots import style  # noqa: F401  (imports what the chapter imports, before anything is timed)
from genclust.lab.provenance import processor
from genclust.ot import squared_distances, transport

K, SIZES, EPSILONS, TOL = 10, (300, 3000, 60_000), (1.0, 0.1, 0.01, 0.001), 1e-6
LIMIT = 4.0  # seconds after which a peer's run is its last
THREADS = min(2, os.cpu_count() or 1)


def problem(n: int) -> torch.Tensor:
    """Squared distances between n Gaussian codes and K Gaussian centres in 10 dimensions, (n, K)."""
    generator = torch.Generator().manual_seed(0)
    z, centers = (torch.randn(m, 10, generator=generator, dtype=torch.float64) for m in (n, K))
    return squared_distances(z, centers)


def error(plan: np.ndarray) -> float:
    """L1 error of both marginals; infinite for a plan that is not finite."""
    n = len(plan)
    found = np.abs(plan.sum(0) - 1 / K).sum() + np.abs(plan.sum(1) - 1 / n).sum()
    return float(found) if np.isfinite(found) else math.inf


def seconds(run, budget: float = 1.0) -> float:
    """The fastest of several runs within a budget, one at least: the others were disturbed."""
    times = []
    while not times or (sum(times) < budget and len(times) < 200):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def to_tolerance(solve) -> tuple[float, bool]:
    """Seconds of ``solve(max_iter)`` with as many iterations as the tolerance takes; False: not within the limit."""
    iterations = 10
    while True:
        solve(iterations)  # compiles what is compiled
        start = time.perf_counter()
        plan = solve(iterations)
        took = time.perf_counter() - start
        if error(np.asarray(plan)) <= TOL:
            return min(took, seconds(lambda: solve(iterations))), True
        if took > LIMIT or iterations > 10**7:
            return took, False
        iterations *= 2


def peers(C: torch.Tensor, eps: float) -> dict:
    """A function of the number of iterations that gives the plan, for each library and setting."""
    import jax
    import ot as pot
    from geomloss.ot._implementations import matrix
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    jax.config.update("jax_enable_x64", True)
    cost, given = C.numpy(), jax.numpy.asarray(C.numpy())
    a, b = np.full(len(C), 1 / len(C)), np.full(K, 1 / K)
    found = {}
    for name in ("sinkhorn", "sinkhorn_log"):
        # POT looks at the error every tenth iteration, as the L2 norm of one marginal
        found[f"POT, {name}"] = lambda n, name=name: pot.sinkhorn(a, b, cost, eps, method=name, stopThr=TOL / 4, numItermax=n, warn=False)
    matrix.annealing_parameters = partial(matrix.annealing_parameters, scaling=1)  # else epsilon falls over all n iterations
    found["geomloss"] = lambda n: matrix.solve(C, reg=eps, max_iter=n).plan.numpy()
    compiled = {}

    def ott(n: int, lse: bool):
        if (n, lse) not in compiled:
            solver = Sinkhorn(lse_mode=lse, threshold=TOL, max_iterations=n)
            compiled[n, lse] = jax.jit(lambda c: solver(LinearProblem(Geometry(cost_matrix=c, epsilon=eps))).matrix)
        return compiled[n, lse](given).block_until_ready()

    found["OTT-JAX, logarithms"] = lambda n: ott(n, True)
    found["OTT-JAX, kernel"] = lambda n: ott(n, False)
    return found


def with_gradient(C: torch.Tensor, eps: float) -> dict:
    """Value and gradient in the cost: ours by the envelope theorem, POT's and OTT's as their users get them."""
    import jax
    import ot as pot
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    jax.config.update("jax_enable_x64", True)
    given = jax.numpy.asarray(C.numpy())
    compiled = {}

    def ours():
        cost = C.clone().requires_grad_()
        transport(cost, eps).value.backward()
        return cost.grad

    def of_pot(n: int):
        cost = C.clone().requires_grad_()
        pot.solve(cost, reg=eps, max_iter=n, tol=TOL / 4, grad="envelope").value.backward()
        return cost.grad

    def of_ott(n: int):
        if n not in compiled:
            solver = Sinkhorn(threshold=TOL, max_iterations=n)
            compiled[n] = jax.jit(jax.grad(lambda c: solver(LinearProblem(Geometry(cost_matrix=c, epsilon=eps))).reg_ot_cost))
        return compiled[n](given).block_until_ready()

    return {"ours": ours, "POT": of_pot, "OTT-JAX": of_ott}


def keep(rows: list[dict]) -> None:
    """Writes what is measured so far."""
    import geomloss
    import jax
    import ot as pot
    import ott
    machine = (f"{processor()}, {THREADS} threads, float64, K = {K}, L1 error of the marginals at most {TOL:g}; POT {pot.__version__}, geomloss "
               f"{geomloss.__version__}, OTT-JAX {ott.__version__}, jax {jax.__version__}, torch {torch.__version__}. Where no other solver came to "
               f"the tolerance within {LIMIT:g} s, the ratio is a lower bound.")
    file = Path(__file__).resolve().parents[1] / "book" / "transport_bench.json"
    file.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    rows = []
    for n in SIZES:
        C = problem(n)
        for share in EPSILONS:
            eps = share * float(C.mean())
            solved = transport(C, eps)
            assert error(solved.plan.numpy()) <= TOL
            gradients = with_gradient(C, eps)
            for gradient, ours, others in (("no", lambda: transport(C, eps), peers(C, eps)),
                                           ("yes", gradients.pop("ours"), gradients)):
                mine = seconds(ours)
                theirs = {}
                for name, solve in others.items():
                    try:
                        theirs[name] = to_tolerance(solve)
                    except (ArithmeticError, RuntimeError, ValueError) as failed:
                        print(f"{name}: {failed}")
                inside = {name: took for name, (took, done) in theirs.items() if done}
                best = min(inside, key=inside.get) if inside else None
                took = inside[best] if best else min((t for t, _ in theirs.values() if t > LIMIT), default=LIMIT)  # not those that broke down
                rows.append({
                    "n": n, "epsilon / mean cost": share, "gradient": gradient, "ours (ms)": round(1e3 * mine, 3),
                    "evaluations": solved.n_iter, "fastest other": best or "none within the limit", "its time (ms)": round(1e3 * took, 3),
                    "ratio": float(f"{took / mine:.3g}"), "all others (ms)": {
                        name: f"{'' if done else '> '}{1e3 * t:.3g}" for name, (t, done) in theirs.items()}})
                print(rows[-1], flush=True)
                keep(rows)


if __name__ == "__main__":
    main()
