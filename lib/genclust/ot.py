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
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MAX_ITER = {"newton": 200, "sinkhorn": 100_000}  # by method
ANNEAL = 6.0  # epsilon falls by this factor from one level to the next
FIRST = 0.02  # and starts at this share of the mean spread of a row's costs, if that is larger than epsilon
ROUGH = 0.002  # marginal error at which a level is good enough to go on to the next
TINY = 1e-300
SAMPLE = 4096  # rows of a sample that gives a problem of four times as many, or more, its start
ROUNDING = 1e-12  # of a plan, in L1: no smaller error is asked for
WARM = 20  # evaluations that a warm start is given, before epsilon is annealed after all
MANY, SMOOTH = 100, 0.1  # with more columns, and epsilon from this share of the mean cost, Sinkhorn's is the faster
REACH = 40.0  # a step moves no potential by more than so many epsilon: exp of it is far from overflow


class NotConverged(UserWarning):
    """An iteration limit was reached; the message says with what error."""


class Transport(NamedTuple):
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
        leading axis R they differ between the problems. A column of weight 0 has a plan and derivatives of
        zero, as if it were not there; its potential means nothing.
    size_penalty : None for the hard constraint P^T 1 = b; rho > 0 for the penalty rho KL(P^T 1 | b)
        instead (Chizat et al., 2018); 0 for no constraint on the columns.
    method : ``"newton"``, compiled on the CPU; ``"sinkhorn"``, Algorithm 1 in logarithms, the reference; ``"auto"`` takes
        the one that was the faster where we measured both: Newton up to 100 columns at every epsilon and n, and beyond
        (a step costs n K^2) only for epsilon below a tenth of the mean cost.
    tol : L1 error of the column marginals at which to stop.
    max_iter : evaluations of the marginals after which to stop in any case, with a warning.
    start : column potentials (K,) or (R, K) to start from, those of a similar problem.

    Raises
    ------
    ValueError : for an argument that can't be; the message names it.
    """
    C, a, weights = _check(cost, epsilon, a, b, size_penalty, method, tol, max_iter, start)
    if method == "auto":
        method = "sinkhorn" if C.shape[-1] > MANY and epsilon >= SMOOTH * float(C.detach().mean()) else "newton"
    max_iter = max_iter or MAX_ITER[method]
    absent = None
    if b is not None and size_penalty != 0 and bool((weights == 0).any()):
        C, weights, absent = _without_absent(C, weights, epsilon)
    plan, value, f, g, row_error, column_error, n_iter = _solve(C.detach(), a.detach(), weights.detach(), start, float(epsilon),
                                                                size_penalty, method, float(tol), max_iter)
    if torch.is_grad_enabled() and (C.requires_grad or a.requires_grad or weights.requires_grad):
        plan, value = _Solution.apply(C, a, weights, plan, value, f, g, float(epsilon), size_penalty)
    error = float(torch.maximum(row_error, column_error).max())
    if not error <= (tol if n_iter >= max_iter else max(2 * tol, ROUNDING)):  # also where it is not a number
        warnings.warn(f"transport stopped after {n_iter} evaluations with a marginal error of {error:.2g} "
                      f"(tol {tol:g}, epsilon {epsilon:g}): raise max_iter, or epsilon", NotConverged, stacklevel=2)
    if absent is not None:
        plan = plan.masked_fill(absent[..., None, :], 0.0)
    return Transport(plan.to(cost.dtype), value.to(cost.dtype), f, g, row_error, column_error, n_iter)


def squared_distances(z: Tensor, centers: Tensor) -> Tensor:
    """|z_i - mu_k|^2: (..., n, d), (..., K, d) -> (..., n, K), from differences, so that none is negative."""
    return (z.unsqueeze(-2) - centers.unsqueeze(-3)).square().sum(-1)


def unrolled_sinkhorn(cost: Tensor, epsilon: float, n_iter: int, *, a: Tensor | None = None, b: Tensor | None = None,
                      last: str = "columns") -> tuple[Tensor, Tensor]:
    """Plan (n, K) and regularised value () after ``n_iter`` iterations of Algorithm 1, for autograd to go back through.

    As in the algorithm the columns are updated last: after few iterations the rows of the plan do not sum to
    ``a``. With ``last="rows"`` they do, and the columns not to ``b``. Computed in logarithms, which the algorithm
    as printed needs for small epsilon. Memory O(n_iter nK).
    """
    C, a, b = _check(cost, epsilon, a, b, None, "sinkhorn", 1.0, n_iter, None, name="n_iter")
    if last not in ("columns", "rows"):
        raise ValueError(f"last={last!r}: use columns or rows")
    scaled, log_a, log_b = -C / epsilon, a.clamp_min(TINY).log()[..., None], b.clamp_min(TINY).log()
    f, g = torch.zeros_like(log_a), torch.zeros_like(log_b)
    for _ in range(n_iter):
        if last == "rows":
            g = log_b - (scaled + f).logsumexp(-2)
        f = log_a - (scaled + g[..., None, :]).logsumexp(-1, keepdim=True)
        if last == "columns":
            g = log_b - (scaled + f).logsumexp(-2)
    log_plan = scaled + f + g[..., None, :]
    plan = log_plan.exp()
    value = (plan * (C + epsilon * (log_plan - 1))).sum((-2, -1))
    return plan.to(cost.dtype), value.to(cost.dtype)


# --- Checks --------------------------------------------------------------------------------------


def _check(cost, epsilon, a, b, size_penalty, method, tol, max_iter, start, name="max_iter") -> tuple[Tensor, Tensor, Tensor]:
    """The cost, and weights with its leading axis, if it has one, in float64; ValueError for what can't be."""
    if not isinstance(cost, Tensor) or cost.dim() not in (2, 3) or 0 in cost.shape:
        shape = tuple(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
        raise ValueError(f"cost must be a tensor (n, K) or (R, n, K) with no empty axis, not {shape}")
    n, K = cost.shape[-2:]
    if K > n:
        raise ValueError(f"cost has {K} columns for {n} rows: there can't be more clusters than points")
    if not cost.is_floating_point():
        raise ValueError(f"cost has the type {cost.dtype}, which no plan fits into: give cost.double()")
    if not (isinstance(epsilon, Real) and 0 < epsilon < math.inf):
        raise ValueError(f"epsilon={epsilon!r}: give a number above 0")
    if not (size_penalty is None or isinstance(size_penalty, Real) and 0 <= size_penalty < math.inf):
        raise ValueError(f"size_penalty={size_penalty!r}: give None for a hard constraint, or a number from 0")
    if method not in ("auto", *MAX_ITER):
        raise ValueError(f"method={method!r}: use one of auto, {', '.join(MAX_ITER)}")
    if not (isinstance(tol, Real) and tol > 0):
        raise ValueError(f"tol={tol!r}: give a number above 0")
    if not (max_iter is None and name == "max_iter" or isinstance(max_iter, Integral) and max_iter >= 1):
        raise ValueError(f"{name}={max_iter!r}: give a whole number from 1")
    C = cost.double()
    if not math.isfinite(C.detach().sum()) and not C.detach().isfinite().all():  # a sum is quicker; that of finite entries may overflow
        raise ValueError("cost has entries that are not finite")
    if start is not None and (not isinstance(start, Tensor) or start.shape not in ((K,), (*C.shape[:-2], K)) or not start.isfinite().all()):
        shape = tuple(start.shape) if isinstance(start, Tensor) else type(start).__name__
        raise ValueError(f"start must be a tensor of {K} finite potentials, not {shape}")
    return C, _weights("a", a, C, n), _weights("b", b, C, K)


def _weights(name: str, given: Tensor | None, C: Tensor, size: int) -> Tensor:
    """Weights as (size,) or (R, size) float64; uniform where none are given."""
    shape = (*C.shape[:-2], size)
    if given is None:
        return C.new_full(shape, 1 / size)
    try:
        w = torch.as_tensor(given, device=C.device).to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is {type(given).__name__}, of which no weights can be made ({error}): give a tensor ({size},)") from error
    if w.shape not in ((size,), shape):
        raise ValueError(f"{name} has shape {tuple(w.shape)}: it must be ({size},)")
    if not (w.detach() >= 0).all():
        raise ValueError(f"{name} has entries that are negative or not a number")
    total = w.detach().sum(-1)
    if ((total - 1).abs() > 1e-5).any():
        raise ValueError(f"{name} sums to {float(total.max()):g}, not to 1")
    w = w.masked_fill(w == 0, 0.0)  # the sum would hand a weight of 0, which has no derivative, those of the others
    return (w / w.sum(-1, keepdim=True)).expand(shape)


def _without_absent(C: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cost and weights for columns of which some have no weight, and which they are: (..., K) bool.

    Such a column's plan is zero. Its potential would be minus infinity, and so the value's derivative in its weight:
    here the column is out of every row's reach instead, and takes no part in derivatives.
    """
    absent = b == 0
    low, high = (float(x) for x in C.detach().aminmax())
    far = high + 2 * (high - low) + 2000 * eps  # potentials differ by no more than costs do; exp(-700) is 0
    return C.masked_fill(absent[..., None, :], far), b.masked_fill(absent, 0.0), absent


# --- The solution, and its derivatives -----------------------------------------------------------


def _target(b: Tensor, g: Tensor, size_penalty: float | None) -> Tensor:
    """What the column sums are at the optimum: b, or b exp(-g / rho)."""
    return b if size_penalty is None else b * (-g / size_penalty).exp()


def _solve(C: Tensor, a: Tensor, b: Tensor, start: Tensor | None, eps: float, rho: float | None, method: str, tol: float,
           max_iter: int) -> tuple:
    """Plan, value, f, g, row errors, column errors, each with C's leading axis, and the evaluations that were needed."""
    if start is not None:
        start = start.detach().to(C).expand(b.shape)
    if rho == 0 or method == "sinkhorn":
        g, used = torch.zeros_like(b), 0
        if rho != 0:
            g, used = _sinkhorn(C, a, b, g if start is None else start, eps, rho, tol, max_iter)
        return *_optimum(C, a, b, g, eps, rho), used
    if start is None and C.shape[-2] >= 4 * SAMPLE:  # a sample's solution saves evaluations of the whole, and costs less than one
        some = slice(None, None, C.shape[-2] // SAMPLE)
        part = a[..., some]
        part = part / part.sum(-1, keepdim=True).clamp_min(TINY)
        start = _solve(C[..., some, :], part, b, None, eps, rho, method, max(tol, ROUGH), max_iter)[3]
    newton = _newton_compiled if C.is_cpu else _newton
    used = 0
    if start is not None:
        *fields, used = newton(C, a, b, start, eps, rho, tol, min(WARM, max_iter))
        if used >= max_iter or float(fields[-1].max()) <= tol:
            return *fields, used
    *fields, cold = newton(C, a, b, None, eps, rho, tol, max_iter - used)  # no start, or of a problem that was not so similar
    return *fields, used + cold


def _optimum(C: Tensor, a: Tensor, b: Tensor, g: Tensor, eps: float, rho: float | None) -> tuple:
    """The fields of the solution whose column potentials are g."""
    if rho is None:
        g = g - g.mean(-1, keepdim=True)
    logits = (g[..., None, :] - C).div_(eps)
    lse = logits.logsumexp(-1)
    plan = logits.softmax(-1).mul_(a[..., None])  # not exp(logits - lse), whose rows don't sum to a where costs are huge
    f = eps * (a.clamp_min(TINY).log() - lse)
    # <C, P> + eps sum P (log P - 1) = sum P (f + g) - eps, as log P = (f + g - C) / eps
    columns = plan.sum(-2)
    value = (a * f).sum(-1) + (columns * g).sum(-1) - eps
    if rho:  # the penalty, rho KL(columns | b)
        value = value + rho * (torch.xlogy(columns, columns / b.clamp_min(TINY)) - columns + b).sum(-1)
    row_error = (plan.sum(-1) - a).abs().sum(-1)
    column_error = torch.zeros_like(row_error) if rho == 0 else (columns - _target(b, g, rho)).abs().sum(-1)
    return plan, value, f, g, row_error, column_error


class _Solution(torch.autograd.Function):
    """Plan and value as functions of (C, a, b), with the derivatives that follow from optimality."""

    @staticmethod
    def forward(ctx, C, a, b, plan, value, f, g, epsilon, size_penalty):
        ctx.save_for_backward(plan, a, b, f, g)
        ctx.epsilon, ctx.size_penalty = epsilon, size_penalty
        ctx.set_materialize_grads(False)
        return plan, value

    @staticmethod
    def backward(ctx, grad_plan, grad_value):
        if torch.is_grad_enabled():  # only where the gradient is to have one itself
            raise RuntimeError("transport has first derivatives only: call it without create_graph, or use unrolled_sinkhorn")
        plan, a, b, f, g = ctx.saved_tensors
        eps, rho = ctx.epsilon, ctx.size_penalty
        in_C = in_a = in_b = 0.0
        if grad_value is not None:
            in_C = plan * grad_value.view(*grad_value.shape, 1, 1)
            if ctx.needs_input_grad[1]:
                in_a = grad_value[..., None] * torch.where(a > 0, f, 0.0)
            if ctx.needs_input_grad[2] and rho != 0:
                in_b = grad_value[..., None] * (g if rho is None else rho * (1 - (-g / rho).exp()))
        if grad_plan is not None:
            share = plan / a.clamp_min(TINY)[..., None]  # softmax of every row

            def rows(W: Tensor) -> Tensor:  # the softmax's Jacobian, which is symmetric
                return plan * (W - (share * W).sum(-1, keepdim=True)) / eps

            W = grad_plan
            if rho != 0:  # the columns hold too: A dg = -dp, or db, for what moves the column sums at fixed g
                columns = plan.sum(-2) + (b == 0)  # a column without weight is left alone
                A = (torch.diag_embed(columns) - share.mT @ plan) / eps
                if rho is None:  # the null space (constants) made regular; between clusters that share no row A is nothing at all
                    A = A + 1 / (eps * plan.shape[-1] ** 2) + torch.eye(plan.shape[-1]).to(A) * (1e-12 / eps)
                else:
                    A = A + torch.diag_embed(_target(b, g, rho) / rho)
                v = torch.linalg.solve(A, rows(W).sum(-2))
                W = W - v[..., None, :]
                in_b = in_b + (v if rho is None else v * (-g / rho).exp())
            in_C = in_C - rows(W)
            in_a = in_a + (share * W).sum(-1)
        return *(x if isinstance(x, Tensor) else None for x in (in_C, in_a, in_b)), None, None, None, None, None, None


# --- Newton's method, compiled -------------------------------------------------------------------


def _newton_compiled(C: Tensor, a: Tensor, b: Tensor, start: Tensor | None, eps: float, rho: float | None, tol: float,
                     max_iter: int) -> tuple:
    """What :func:`_newton` gives, problem by problem."""
    from .ot_compiled import newton as solve  # here, as numba takes a second to import
    C, a, b = C.contiguous().numpy(), a.numpy(), b.numpy()
    g = np.zeros(b.shape) if start is None else start.numpy().copy()
    plan, f, value, row_error, column_error = (np.empty(shape) for shape in (C.shape, a.shape, *3 * [C.shape[:-2]]))
    used, rho, tuning = 0, math.inf if rho is None else float(rho), (FIRST, ANNEAL, ROUGH, REACH)
    for r in np.ndindex(C.shape[:-2]):
        value[r], row_error[r], column_error[r], steps = solve(C[r], a[r], b[r], g[r], eps, rho, tol, max_iter, start is None, tuning,
                                                               plan[r], f[r])
        used = max(used, steps)
    return *(torch.from_numpy(x) for x in (plan, value, f, g, row_error, column_error)), used


# --- Newton's method on the column potentials, in tensors ----------------------------------------


def _newton(C: Tensor, a: Tensor, b: Tensor, start: Tensor | None, epsilon: float, rho: float | None, tol: float,
            max_iter: int) -> tuple:
    """The fields of the solution, and the evaluations of the marginals that they took.

    Without a start epsilon is annealed: where it is large the dual is nearly quadratic, and its solution is a good
    start for the next smaller one.
    """
    g, level, used = torch.zeros_like(b) if start is None else start, epsilon, 0
    if start is None:
        some = C[..., :: 1 + C.shape[-2] // 64, :]
        spread = FIRST * float((some.mean(-1) - some.amin(-1)).mean())
        while level < spread:
            level *= ANNEAL
    while True:
        last = level <= epsilon * 1.0001
        g, steps = _maximise(C, a, b, g, epsilon if last else level, rho, tol if last else max(tol, ROUGH), max_iter - used)
        used += steps
        if last or used >= max_iter:
            return *_optimum(C, a, b, g, epsilon, rho), used
        level = max(level / ANNEAL, epsilon)


def _maximise(C, a, b, g, eps, rho, tol, max_iter) -> tuple[Tensor, int]:
    """Damped Newton for one epsilon: potentials, and the evaluations of the marginals, those of steps that were too long too.

    The kernel M = exp((g - C) / eps), scaled by row, is computed once; moving g by eps log u only
    multiplies its columns by u, so an evaluation is products of M with vectors, and one with itself.
    """
    kernel, u = _kernel(C, g, eps), torch.ones_like(g)
    s = kernel.sum(-1)
    ridge = 1e-12 + (b == 0)  # a column without weight is left alone
    gauge = 1 / C.shape[-1] ** 2 if rho is None else 0.0  # constants do not matter: the null space made regular
    used = 1
    while True:
        r = a / s
        p = u * (r[..., None, :] @ kernel)[..., 0, :]
        target = _target(b, g, rho)
        grad = target - p
        error = grad.abs().sum(-1)
        done = error <= tol
        if bool(done.all()) or used >= max_iter:
            return g, used
        weighted = kernel * (r / s)[..., None]
        H = torch.diag_embed(p + ridge) - u[..., None] * u[..., None, :] * (kernel.mT @ weighted) + gauge
        if rho is not None:
            H = H + torch.diag_embed(eps / rho * target)
        step = torch.linalg.solve(H, grad)  # in units of eps
        step = torch.where(done[..., None] | ~step.isfinite(), 0.0, step)
        step = step - step.mean(-1, keepdim=True) if rho is None else step
        step = step * (REACH / step.abs().amax(-1, keepdim=True).clamp_min(REACH))
        slope = (grad * step).sum(-1)
        t = torch.ones_like(slope)
        for _ in range(30):  # backtracking on the dual, whose change is computed directly
            move = t[..., None] * step
            moved = u * move.exp()
            s_new = (kernel @ moved[..., None])[..., 0]
            used += 1
            gain = -(a * (s_new / s).log()).sum(-1)
            gain = gain + ((b * move).sum(-1) if rho is None else rho / eps * (target * -torch.expm1(-eps / rho * move)).sum(-1))
            short = gain < 1e-4 * t * slope - 1e-14
            if not bool(short.any()) or used >= max_iter:
                break
            t = torch.where(short, t / 4, t)
        g, u, s = g + eps * move, moved, s_new
        if float(u.log().abs().max()) > REACH:
            kernel, u = _kernel(C, g, eps), torch.ones_like(g)
            s = kernel.sum(-1)


def _kernel(C: Tensor, g: Tensor, eps: float) -> Tensor:
    """exp((g - C) / eps), each row divided by its largest entry."""
    logits = (g[..., None, :] - C).div_(eps)
    return logits.sub_(logits.amax(-1, keepdim=True)).exp_()


# --- Sinkhorn's algorithm, the reference ---------------------------------------------------------


def _sinkhorn(C: Tensor, a: Tensor, b: Tensor, g: Tensor, eps: float, rho: float | None, tol: float,
              max_iter: int) -> tuple[Tensor, int]:
    """Algorithm 1 in logarithms: rows, then columns, until the column sums are right."""
    log_a, log_b = a.clamp_min(TINY).log()[..., None], b.clamp_min(TINY).log()
    damping = 1.0 if rho is None else rho / (rho + eps)
    scaled = -C / eps
    for used in range(1, max_iter + 1):
        f = log_a - (scaled + g[..., None, :] / eps).logsumexp(-1, keepdim=True)
        columns = (scaled + f).logsumexp(-2)  # log of the column sums, but for g
        error = ((columns + g / eps).exp() - _target(b, g, rho)).abs().sum(-1)
        if used > 1 and bool(((error <= tol) | g.isnan().any(-1)).all()):  # what overflowed once stays so
            break
        g = damping * eps * (log_b - columns)
    return g, used
