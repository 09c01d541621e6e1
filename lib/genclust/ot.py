"""Entropic optimal transport between n points and K clusters, for few clusters.

The problem, with plan P (n, K), weights a of the rows and b of the columns (``OT_eps`` of Genevay et al., 2019):

    minimise  <C, P> + eps sum P (log P - 1)   subject to  P 1 = a  and  P^T 1 = b.

For given column potentials g the rows solve themselves, P_ik = a_i softmax_k((g_k - C_ik) / eps). What is
left is smooth and concave in the K numbers g alone, and Newton's method takes a handful of steps where
Sinkhorn's needs hundreds or thousands: :func:`transport`. A soft column constraint (``size_penalty``)
adds one term to the same problem; without any (0) the plan is that of soft k-means (Proposition 2).

Everything is computed in float64, whatever the precision of the cost: with few columns that is cheap, and
small epsilon asks for it.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

METHODS = ("auto", "newton", "sinkhorn")
MAX_ITER = {"newton": 200, "sinkhorn": 100_000}
ANNEAL = 6.0  # epsilon falls by this factor from one level to the next
FIRST = 0.02  # and starts at this share of the mean spread of a row's costs, if that is larger than epsilon
ROUGH = 0.002  # marginal error at which a level is good enough to go on to the next
TINY = 1e-300
WARM = 20  # evaluations that a warm start is given, before epsilon is annealed after all
REACH = 40.0  # a step moves no potential by more than so many epsilon: exp of it is far from overflow


class NotConverged(UserWarning):
    """An iteration limit was reached; the message says with what error."""


@dataclass(frozen=True)
class Transport:
    """The solution of one problem, or of R problems with a leading axis R on every field.

    ``plan`` (n, K) and ``value`` () are differentiable with respect to cost and weights: the value by the
    envelope theorem (its gradient in C is the plan), the plan by implicit differentiation.
    ``row_potentials`` f (n,) and ``potentials`` g (K,) solve P = exp((f + g - C) / eps), with g of mean 0
    where the column constraint is hard. ``row_error`` and ``column_error`` are the L1 distances of the
    plan's marginals from those asked for.
    """

    plan: Tensor
    value: Tensor
    row_potentials: Tensor
    potentials: Tensor
    row_error: Tensor
    column_error: Tensor
    n_iter: int


def transport(cost: Tensor, epsilon: float, *, a: Tensor | None = None, b: Tensor | None = None,
              size_penalty: float | None = None, method: str = "auto", tol: float = 1e-6,
              max_iter: int | None = None, start: Tensor | None = None) -> Transport:
    """Solves entropic optimal transport for a cost (n, K), or (R, n, K) for R problems at once.

    Parameters
    ----------
    epsilon : the weight of the entropy, in the unit of the cost.
    a, b : weights of rows (n,) and columns (K,), each summing to one; uniform where not given. With a
        leading axis R they differ between the problems.
    size_penalty : None for the hard constraint P^T 1 = b; rho > 0 for the penalty rho KL(P^T 1 | b)
        instead (Chizat et al., 2018); 0 for no constraint on the columns.
    method : ``"newton"``, compiled where numba is installed; ``"sinkhorn"``, Algorithm 1 in logarithms, the
        reference; ``"auto"`` is Newton, which was the faster at every epsilon, n and K that we tried.
    tol : L1 error of the column marginals at which to stop.
    max_iter : evaluations of the marginals after which to stop in any case, with a warning.
    start : column potentials (K,) or (R, K) to start from, those of a similar problem.

    Raises
    ------
    ValueError : for an argument that can't be; the message names it.
    """
    C, a, b = _check(cost, epsilon, a, b, size_penalty, method, tol, max_iter, start)
    method = "newton" if method == "auto" else method
    max_iter = max_iter or MAX_ITER[method]
    wanted = (start, float(epsilon), size_penalty, method, float(tol), max_iter)
    if torch.is_grad_enabled() and (C.requires_grad or a.requires_grad or b.requires_grad):
        *fields, n_iter = _Solve.apply(C, a, b, *wanted)
    else:
        *fields, n_iter = _solve(C, a, b, *wanted)
    if n_iter >= max_iter and float(fields[-1].max()) > tol:
        warnings.warn(f"transport stopped after {n_iter} evaluations with a marginal error of {float(fields[-1].max()):.2g} "
                      f"(tol {tol:g}, epsilon {epsilon:g}): raise max_iter, or epsilon", NotConverged, stacklevel=2)
    if cost.dtype != torch.float64:
        fields = [x.to(cost.dtype) if i < 2 else x for i, x in enumerate(fields)]
    return Transport(*(fields if cost.dim() == 3 else [x[0] for x in fields]), n_iter)


def squared_distances(z: Tensor, centers: Tensor) -> Tensor:
    """|z_i - mu_k|^2: (..., n, d), (..., K, d) -> (..., n, K), from differences, so that none is negative."""
    return (z.unsqueeze(-2) - centers.unsqueeze(-3)).square().sum(-1)


def unrolled_sinkhorn(cost: Tensor, epsilon: float, n_iter: int, *, a: Tensor | None = None,
                      b: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Plan (n, K) and regularised value () after ``n_iter`` iterations of Algorithm 1, for autograd to go back through.

    As in the algorithm the columns are updated last: after few iterations the rows of the plan do not sum to
    ``a``. Computed in logarithms, which the algorithm as printed needs for small epsilon. Memory O(n_iter nK).
    """
    C, a, b = _check(cost, epsilon, a, b, None, "sinkhorn", 1.0, n_iter, None)
    scaled, log_a, log_b = -C / epsilon, a.clamp_min(TINY).log()[..., None], b.clamp_min(TINY).log()
    g = torch.zeros_like(log_b)
    for _ in range(n_iter):
        f = log_a - (scaled + g[:, None]).logsumexp(2, keepdim=True)
        g = log_b - (scaled + f).logsumexp(1)
    log_plan = scaled + f + g[:, None]
    plan = log_plan.exp()
    value = (plan * (C + epsilon * (log_plan - 1))).sum((1, 2))
    plan, value = plan.to(cost.dtype), value.to(cost.dtype)
    return (plan, value) if cost.dim() == 3 else (plan[0], value[0])


# --- Checks --------------------------------------------------------------------------------------


def _check(cost, epsilon, a, b, size_penalty, method, tol, max_iter, start) -> tuple[Tensor, Tensor, Tensor]:
    """The cost as (R, n, K) and weights as (R, n) and (R, K), in float64; ValueError for what can't be."""
    if not isinstance(cost, Tensor) or cost.dim() not in (2, 3) or 0 in cost.shape:
        shape = tuple(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
        raise ValueError(f"cost must be a tensor (n, K) or (R, n, K) with no empty axis, not {shape}")
    n, K = cost.shape[-2:]
    if K > n:
        raise ValueError(f"cost has {K} columns for {n} rows: there can't be more clusters than points")
    if not (isinstance(epsilon, (int, float)) and 0 < epsilon < math.inf):
        raise ValueError(f"epsilon={epsilon!r}: give a number above 0")
    if not (size_penalty is None or 0 <= size_penalty < math.inf):
        raise ValueError(f"size_penalty={size_penalty!r}: give None for a hard constraint, or a number from 0")
    if method not in METHODS:
        raise ValueError(f"method={method!r}: use one of {', '.join(METHODS)}")
    if not tol > 0:
        raise ValueError(f"tol={tol!r}: give a number above 0")
    if max_iter is not None and max_iter < 1:
        raise ValueError(f"max_iter={max_iter!r}: use 1 or more")
    C = cost.double().reshape(-1, n, K)
    if not C.detach().sum().isfinite() and not C.detach().isfinite().all():
        raise ValueError("cost has entries that are not finite")
    R = len(C)
    if start is not None and (start.shape[-1] != K or start.dim() > 2 or not start.isfinite().all()):
        raise ValueError(f"start must hold {K} finite potentials, not {tuple(start.shape)}")
    return C, _weights("a", a, C, n), _weights("b", b, C, K)


def _weights(name: str, given: Tensor | None, C: Tensor, size: int) -> Tensor:
    """Weights as (R, size) float64; uniform where none are given."""
    if given is None:
        return C.new_full((1, size), 1 / size).expand(len(C), size)
    w = torch.as_tensor(given, device=C.device).to(torch.float64)
    if w.shape not in ((size,), (len(C), size)):
        raise ValueError(f"{name} has shape {tuple(w.shape)}: it must be ({size},)")
    if not (w.detach() >= 0).all():
        raise ValueError(f"{name} has entries that are negative or not a number")
    total = w.detach().sum(-1)
    if ((total - 1).abs() > 1e-5).any():
        raise ValueError(f"{name} sums to {float(total.max()):g}, not to 1")
    return (w / w.sum(-1, keepdim=True)).expand(len(C), size)


# --- The solution, and its derivatives -----------------------------------------------------------


def _target(b: Tensor, g: Tensor, size_penalty: float | None) -> Tensor:
    """What the column sums are at the optimum: b, or b exp(-g / rho)."""
    return b if size_penalty is None else b * (-g / size_penalty).exp()


def _solve(C: Tensor, a: Tensor, b: Tensor, start: Tensor | None, eps: float, rho: float | None, method: str, tol: float,
           max_iter: int) -> tuple:
    """Plan, value, f, g, row errors, column errors, each with a leading axis R, and the evaluations that were needed."""
    R, n, K = C.shape
    if start is not None and method == "newton" and rho != 0 and max_iter > WARM:
        warm = _solve(C, a, b, start, eps, rho, method, tol, WARM)
        if float(warm[5].max()) <= tol:
            return warm
        *cold, n_iter = _solve(C, a, b, None, eps, rho, method, tol, max_iter - WARM)  # the problems were not so similar
        return *cold, n_iter + WARM
    g, level = C.new_zeros(R, K), eps
    if start is not None:
        g += start.detach().to(C).reshape(-1, K)
    elif method == "newton":
        spread = FIRST * float((C.detach().mean(2) - C.detach().amin(2)).mean())
        while level < spread:
            level *= ANNEAL
    if method == "newton" and rho != 0 and C.device.type == "cpu" and _compiled() is not None:
        return _solve_compiled(C, a, b, g, eps, rho, tol, max_iter, level)
    n_iter = 0
    if rho == 0:
        g = torch.zeros_like(g)
    elif method == "newton":
        g, n_iter = _newton(C, a, b, g, eps, rho, tol, max_iter, level)
    else:
        g, n_iter = _sinkhorn(C, a, b, g, eps, rho, tol, max_iter)
    if rho is None:
        g = g - g.mean(1, keepdim=True)
    logits = (g[:, None] - C).div_(eps)
    lse = logits.logsumexp(2)
    plan = logits.sub_(lse[..., None]).exp_().mul_(a[..., None])
    f = eps * (a.log() - lse)
    # <C, P> + eps sum P (log P - 1) = sum P (f + g) - eps, as log P = (f + g - C) / eps; 0 log 0 = 0
    columns = plan.sum(1)
    value = torch.where(a > 0, a * f, 0.0).sum(1) + (columns * g).sum(1) - eps
    row_error = (plan.sum(2) - a).abs().sum(1)
    column_error = torch.zeros_like(row_error) if rho == 0 else (columns - _target(b, g, rho)).abs().sum(1)
    return plan, value + _penalty(columns, b, rho), f, g, row_error, column_error, n_iter


def _penalty(columns: Tensor, b: Tensor, rho: float | None) -> Tensor | float:
    """rho KL(columns | b), (R,); nothing for a hard constraint or none."""
    if not rho:
        return 0.0
    return rho * (torch.xlogy(columns, columns / b.clamp_min(TINY)) - columns + b).sum(1)


@cache
def _compiled():
    """The compiled solver, or None where numba is not installed."""
    try:
        from . import ot_compiled
    except ImportError:
        return None
    return ot_compiled


def _solve_compiled(C, a, b, g, eps, rho, tol, max_iter, level) -> tuple:
    """The same for the processor, problem by problem."""
    plan, f = torch.empty_like(C, memory_format=torch.contiguous_format), torch.empty_like(C[..., 0])
    found = [_compiled().newton(C[r].detach().numpy(), a[r].detach().numpy(), b[r].detach().numpy(), g[r].numpy(), eps,
                                math.inf if rho is None else rho, tol, max_iter, level, ANNEAL, ROUGH, REACH,
                                plan[r].numpy(), f[r].numpy()) for r in range(len(C))]
    value, row_error, column_error, used = zip(*found)
    value, row_error, column_error = torch.tensor([value, row_error, column_error], dtype=torch.float64)
    if rho is not None:
        value = value + _penalty(plan.sum(1), b.detach(), rho)
    return plan, value, f, g, row_error, column_error, max(used)


class _Solve(torch.autograd.Function):
    """(C, a, b) -> what :func:`_solve` gives, with the derivatives that follow from optimality."""

    @staticmethod
    def forward(ctx, C, a, b, start, epsilon, size_penalty, method, tol, max_iter):
        plan, value, f, g, row_error, column_error, n_iter = _solve(C, a, b, start, epsilon, size_penalty, method, tol, max_iter)
        ctx.save_for_backward(plan, a, b, f, g)
        ctx.epsilon, ctx.size_penalty = epsilon, size_penalty
        ctx.mark_non_differentiable(f, g, row_error, column_error)
        ctx.set_materialize_grads(False)
        return plan, value, f, g, row_error, column_error, n_iter

    @staticmethod
    def backward(ctx, grad_plan, grad_value, *_):
        plan, a, b, f, g = ctx.saved_tensors
        eps, rho = ctx.epsilon, ctx.size_penalty
        in_C, in_a, in_b = (torch.zeros_like(x) for x in (plan, a, b))
        share = plan / a.clamp_min(TINY)[..., None]  # softmax of every row
        if grad_value is not None:
            in_C = in_C + grad_value[:, None, None] * plan
            in_a = in_a + grad_value[:, None] * torch.where(a > 0, f, 0.0)
            if rho is None:
                in_b = in_b + grad_value[:, None] * g
            elif rho > 0:
                in_b = in_b + grad_value[:, None] * rho * (1 - (-g / rho).exp())
        if grad_plan is not None:
            def rows(W: Tensor) -> Tensor:  # the softmax's Jacobian, which is symmetric
                return plan * (W - (share * W).sum(2, keepdim=True)) / eps

            W = grad_plan
            if rho != 0:  # the columns hold too: A dg = -dp, or db, for what moves the column sums at fixed g
                columns = plan.sum(1)
                A = (torch.diag_embed(columns) - share.mT @ plan) / eps
                if rho is None:
                    A = A + 1 / (eps * plan.shape[2] ** 2)  # the null space (constants) made regular
                else:
                    A = A + torch.diag_embed(_target(b, g, rho) / rho)
                v = torch.linalg.solve(A, rows(W).sum(1))
                W = W - v[:, None]
                in_b = in_b + (v if rho is None else v * (-g / rho).exp())
            in_C = in_C - rows(W)
            in_a = in_a + (share * W).sum(2)
        return in_C, in_a, in_b, None, None, None, None, None, None


# --- Newton's method on the column potentials ----------------------------------------------------


def _newton(C: Tensor, a: Tensor, b: Tensor, g: Tensor, epsilon: float, rho: float | None, tol: float, max_iter: int,
            level: float) -> tuple[Tensor, int]:
    """Column potentials (R, K), and the evaluations of the marginals that they took.

    Epsilon is annealed from ``level``: where it is large the dual is nearly quadratic, and its solution is a good
    start for the next smaller one.
    """
    used = 0
    while True:
        last = level <= epsilon * 1.0001
        g, steps = _maximise(C, a, b, g, epsilon if last else level, rho, tol if last else max(tol, ROUGH), max_iter - used)
        used += steps
        if last or used >= max_iter:
            return g, used
        level = max(level / ANNEAL, epsilon)


def _maximise(C, a, b, g, eps, rho, tol, max_iter) -> tuple[Tensor, int]:
    """Damped Newton for one epsilon.

    The kernel M = exp((g - C) / eps), scaled by row, is computed once; moving g by eps log u only
    multiplies its columns by u, so an evaluation is products of M with vectors, and one with itself.
    """
    R, n, K = C.shape
    kernel, u = _kernel(C, g, eps), torch.ones_like(g)
    s = kernel.sum(2)
    ridge = torch.eye(K, dtype=C.dtype, device=C.device) * 1e-14
    gauge = 1 / K**2 if rho is None else 0.0
    for used in range(1, max_iter + 1):
        r = a / s
        p = u * (r[:, None] @ kernel)[:, 0]
        target = _target(b, g, rho)
        grad = target - p
        error = grad.abs().sum(1)
        done = error <= tol
        if bool(done.all()):
            break
        weighted = kernel * (r / s)[..., None]
        H = torch.diag_embed(p + 1e-12) - u[:, :, None] * u[:, None] * (kernel.mT @ weighted) + gauge + ridge
        if rho is not None:
            H = H + torch.diag_embed(eps / rho * target)
        step = torch.linalg.solve(H, grad)  # in units of eps
        step = torch.where(done[:, None] | ~step.isfinite(), 0.0, step)
        step = step - step.mean(1, keepdim=True) if rho is None else step
        step = step * (REACH / step.abs().amax(1, keepdim=True).clamp_min(REACH))
        slope = (grad * step).sum(1)
        t = torch.ones_like(slope)
        for _ in range(30):  # backtracking on the dual, whose change is computed directly
            move = t[:, None] * step
            moved = u * move.exp()
            s_new = (kernel @ moved[..., None])[..., 0]
            gain = -(a * (s_new / s).log()).sum(1)
            gain = gain + ((b * move).sum(1) if rho is None else rho / eps * (target * -torch.expm1(-eps / rho * move)).sum(1))
            short = gain < 1e-4 * t * slope - 1e-14
            if not bool(short.any()):
                break
            t = torch.where(short, t / 4, t)
        g, u, s = g + eps * move, moved, s_new
        if float(u.log().abs().max()) > REACH:
            kernel, u = _kernel(C, g, eps), torch.ones_like(g)
            s = kernel.sum(2)
    return g, used


def _kernel(C: Tensor, g: Tensor, eps: float) -> Tensor:
    """exp((g - C) / eps), each row divided by its largest entry: (R, n, K)."""
    logits = (g[:, None] - C).div_(eps)
    return logits.sub_(logits.amax(2, keepdim=True)).exp_()


# --- Sinkhorn's algorithm, the reference ---------------------------------------------------------


def _sinkhorn(C: Tensor, a: Tensor, b: Tensor, g: Tensor, eps: float, rho: float | None, tol: float,
              max_iter: int) -> tuple[Tensor, int]:
    """Algorithm 1 in logarithms: rows, then columns, until the column sums are right."""
    log_a, log_b = a.clamp_min(TINY).log()[..., None], b.clamp_min(TINY).log()
    damping = 1.0 if rho is None else rho / (rho + eps)
    scaled = -C / eps
    for used in range(1, max_iter + 1):
        f = log_a - (scaled + g[:, None] / eps).logsumexp(2, keepdim=True)
        columns = (scaled + f).logsumexp(1)  # log of the column sums, but for g
        error = ((columns + g / eps).exp() - _target(b, g, rho)).abs().sum(1)
        if used > 1 and bool((error <= tol).all()):
            break
        g = damping * eps * (log_b - columns)
    return g, used
