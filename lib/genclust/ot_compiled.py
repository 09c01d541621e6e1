"""The Newton solver of :mod:`genclust.ot`, compiled for the processor by numba.

The same algorithm as its tensor form, problem by problem, in passes over blocks of rows that stay in the
nearest cache. The kernel is held transposed, (K, n), so that every inner loop runs over rows and becomes
vector instructions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

BLOCK = 256
LOG2_E, LN2_HIGH, LN2_LOW = 1 / math.log(2), 0.693147180369123816490, 1.90821492927058770002e-10
TAYLOR = tuple(1 / math.factorial(k) for k in range(13, -1, -1))  # of exp on [-ln 2 / 2, ln 2 / 2], to the last digit


@njit(cache=True, fastmath=True)
def _exponentials(x, bits):
    """exp of every x <= 0, in place: a power of two, put together from its bits, times a short series.

    A loop that calls the library's exp is not vectorised; this one is, and several times as fast.
    """
    scale = bits.view(np.float64)
    for i in range(len(x)):
        t = max(x[i], -700.0)  # exp(-700) is as good as nothing, and its bits are still a normal number's
        k = math.floor(t * LOG2_E + 0.5)
        bits[i] = (np.int64(k) + 1023) << 52
        x[i] = (t - k * LN2_HIGH) - k * LN2_LOW
    for i in range(len(x)):
        r = x[i]
        y = TAYLOR[0]
        for c in TAYLOR[1:]:
            y = y * r + c
        x[i] = y * scale[i]


@njit(cache=True, fastmath=True)
def _fill_kernel(C, g, eps, kernel, top):
    """kernel = exp((g - C) / eps - top), (K, n), with top (n,) the largest exponent of every row."""
    n, K = C.shape
    bits = np.empty(BLOCK, np.int64)
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        top[first:last] = -np.inf
        for k in range(K):
            row = kernel[k, first:last]
            for i in range(last - first):
                row[i] = (g[k] - C[first + i, k]) / eps
            for i in range(last - first):
                top[first + i] = max(top[first + i], row[i])
        for k in range(K):
            row = kernel[k, first:last]
            for i in range(last - first):
                row[i] -= top[first + i]
            _exponentials(row, bits[: last - first])


@njit(cache=True, fastmath=True)
def _evaluate(kernel, u, a, log_s, columns, hessian):
    """At potentials moved by eps log u: column sums, their derivative, and the logarithms of the row sums.

    hessian = diag(columns) - P^T diag(1/a) P, that of minus the dual times eps. Returns sum a log s.
    """
    K, n = kernel.shape
    Q = np.empty((K, BLOCK))
    s, root = np.empty(BLOCK), np.empty(BLOCK)
    columns[:] = 0.0
    hessian[:] = 0.0
    total = 0.0
    for first in range(0, n, BLOCK):
        m = min(BLOCK, n - first)
        s[:m] = 0.0
        for k in range(K):
            for i in range(m):
                Q[k, i] = kernel[k, first + i] * u[k]
                s[i] += Q[k, i]
        for i in range(m):
            log_s[first + i] = math.log(s[i])
            total += a[first + i] * log_s[first + i]
            root[i] = math.sqrt(a[first + i]) / s[i]
        for k in range(K):
            mass = 0.0
            for i in range(m):
                Q[k, i] *= root[i]  # now P / sqrt(a)
                mass += Q[k, i] * root[i] * s[i]
            columns[k] += mass
        for k in range(K):
            for j in range(k + 1):
                product = 0.0
                for i in range(m):
                    product += Q[k, i] * Q[j, i]
                hessian[k, j] -= product
    for k in range(K):
        for j in range(k):
            hessian[j, k] = hessian[k, j]
        hessian[k, k] += columns[k]
    return total


@njit(cache=True)
def _solve_positive(A, x):
    """x := A^-1 x by Cholesky, in place; a pivot that rounding made negative is left out of the step."""
    K = len(x)
    for k in range(K):
        for j in range(k + 1):
            t = A[k, j]
            for i in range(j):
                t -= A[k, i] * A[j, i]
            if k == j:
                A[k, k] = math.sqrt(t) if t > 1e-18 else 1e18
            else:
                A[k, j] = t / A[j, j]
    for k in range(K):
        for j in range(k):
            x[k] -= A[k, j] * x[j]
        x[k] /= A[k, k]
    for k in range(K - 1, -1, -1):
        for j in range(k + 1, K):
            x[k] -= A[j, k] * x[j]
        x[k] /= A[k, k]


@njit(cache=True, fastmath={"contract"})
def maximise(C, a, b, g, eps, rho, tol, max_iter, reach, kernel, top, log_s):
    """Damped Newton for one epsilon, from potentials ``g`` (K,), in place. ``rho`` is infinite for a hard constraint.

    Leaves the kernel, and in ``log_s`` the logarithms of its row sums, at what is returned: u (K,) with the
    plan P = a kernel u / s, and the number of evaluations.
    """
    n, K = C.shape
    hard = math.isinf(rho)
    u, moved, step = np.ones(K), np.ones(K), np.empty(K)
    columns, hessian = np.empty(K), np.empty((K, K))
    log_new = np.empty(n)
    _fill_kernel(C, g, eps, kernel, top)
    total = _evaluate(kernel, u, a, log_s, columns, hessian)
    used = 1
    while True:
        error = 0.0
        for k in range(K):
            step[k] = (b[k] if hard else b[k] * math.exp(-g[k] / rho)) - columns[k]
            error += abs(step[k])
        if error <= tol or used >= max_iter:
            return u, used
        gradient = step.copy()
        for k in range(K):
            hessian[k, k] += 1e-12
            if hard:
                for j in range(K):
                    hessian[k, j] += 1 / K**2  # constants do not matter: the null space made regular
            else:
                hessian[k, k] += eps / rho * b[k] * math.exp(-g[k] / rho)
        _solve_positive(hessian, step)
        if hard:
            step -= step.mean()
        largest = np.abs(step).max()
        if largest > reach:
            step *= reach / largest
        slope = (gradient * step).sum()
        t = 1.0
        for _ in range(30):  # backtracking on the dual
            gain = 0.0
            for k in range(K):
                moved[k] = u[k] * math.exp(t * step[k])
                gain += t * b[k] * step[k] if hard else -rho / eps * b[k] * math.exp(-g[k] / rho) * math.expm1(-eps / rho * t * step[k])
            new = _evaluate(kernel, moved, a, log_new, columns, hessian)
            used += 1
            if gain - (new - total) >= 1e-4 * t * slope - 1e-14 or used >= max_iter:
                break
            t /= 4
        total = new
        log_s[:] = log_new
        furthest = 0.0
        for k in range(K):
            g[k] += eps * t * step[k]
            u[k] = moved[k]
            furthest = max(furthest, abs(math.log(u[k])))
        if furthest > reach:
            _fill_kernel(C, g, eps, kernel, top)
            u[:] = 1.0
            total = _evaluate(kernel, u, a, log_s, columns, hessian)


@njit(cache=True, fastmath={"contract"})
def newton(C, a, b, g, eps, rho, tol, max_iter, level, factor, rough, reach, plan, f):
    """Anneals from ``level`` down to ``eps``; fills plan (n, K), f (n,) and g (K,).

    Returns the regularised value without a column penalty, the L1 errors of rows and columns, and the number
    of evaluations.
    """
    n, K = C.shape
    kernel, top, log_s = np.empty((K, n)), np.empty(n), np.empty(n)
    used = 0
    while True:
        last = level <= eps * 1.0001
        u, steps = maximise(C, a, b, g, eps if last else level, rho, tol if last else max(tol, rough),
                            max_iter - used, reach, kernel, top, log_s)
        used += steps
        if last:
            break
        if used >= max_iter:  # an approximate plan for the epsilon that was asked for
            u, steps = maximise(C, a, b, g, eps, rho, tol, 1, reach, kernel, top, log_s)
            break
        level = max(level / factor, eps)
    shift = g.mean() if math.isinf(rho) else 0.0
    columns = np.zeros(K)
    value = row_error = 0.0
    for i in range(n):
        weight = a[i] * math.exp(-log_s[i])
        mass = 0.0
        for k in range(K):
            plan[i, k] = kernel[k, i] * u[k] * weight
            mass += plan[i, k]
            columns[k] += plan[i, k]
        row_error += abs(mass - a[i])
        if a[i] > 0:
            f[i] = eps * (math.log(a[i]) - top[i] - log_s[i]) + shift
            value += a[i] * f[i]
        else:
            f[i] = -np.inf
    column_error = 0.0
    for k in range(K):
        g[k] -= shift
        value += columns[k] * g[k]
        column_error += abs(columns[k] - (b[k] if math.isinf(rho) else b[k] * math.exp(-g[k] / rho)))
    return value - eps, row_error, column_error, used
