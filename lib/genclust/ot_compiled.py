"""The Newton solver of :mod:`genclust.ot`, compiled for the processor by numba.

The same algorithm as its tensor form, problem by problem, in passes over blocks of rows that stay in the
nearest cache. The kernel is held in the plan's own memory: each block of m rows and K columns transposed,
(K, m), so that every inner loop runs over rows and becomes vector instructions. For the same reason loops
are given slices, whose indices can't be negative, and division does not look for zero.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

BLOCK = 256
TINY, LOWEST = 1e-300, float(np.finfo(np.float64).min)
LOG2_E, LN2_HIGH, LN2_LOW = 1 / math.log(2), 0.693147180369123816490, 1.90821492927058770002e-10
TAYLOR = tuple(1 / math.factorial(k) for k in range(13, -1, -1))  # of exp on [-ln 2 / 2, ln 2 / 2], to the last digit
ODD = tuple(2 / (2 * k + 1) for k in range(9, -1, -1))  # of 2 artanh(z) / z in z^2, to the last digit for |z| < 0.172
SQRT_HALF = int(np.float64(0.5**0.5).view(np.int64))  # its bits

vectorised = njit(cache=True, fastmath=True, error_model="numpy")
compiled = njit(cache=True, fastmath={"contract"}, error_model="numpy")


@vectorised
def _exponentials(x, top, bits):
    """exp of every x - top <= 0, in place of x: a power of two, put together from its bits, times a short series.

    A loop that calls the library's exp is not vectorised; this one is, and several times as fast.
    """
    scale = bits.view(np.float64)
    for i in range(len(x)):
        t = max(x[i] - top[i], -700.0)  # exp(-700) is as good as nothing, and its bits are still a normal number's
        k = math.floor(t * LOG2_E + 0.5)
        bits[i] = (np.int64(k) + 1023) << 52
        x[i] = (t - k * LN2_HIGH) - k * LN2_LOW
    for i in range(len(x)):
        r = x[i]
        y = TAYLOR[0]
        for c in TAYLOR[1:]:
            y = y * r + c
        x[i] = y * scale[i]


@vectorised
def _logarithms(x, power):
    """log of every x > 0, in place: the other way round, with log m = 2 artanh((m - 1) / (m + 1)) for m near 1."""
    bits = x.view(np.int64)
    for i in range(len(x)):
        k = (bits[i] - SQRT_HALF) >> 52
        power[i] = k
        bits[i] -= k << 52  # now x is between sqrt(1/2) and sqrt(2)
    for i in range(len(x)):
        z = (x[i] - 1.0) / (x[i] + 1.0)
        y = ODD[0]
        for c in ODD[1:]:
            y = y * (z * z) + c
        x[i] = z * y + power[i] * (LN2_HIGH + LN2_LOW)


@vectorised
def _fill(C, g, eps, kernel, top, bits):
    """One block of the kernel: exp((g - C) / eps - top), (K, m), with top (m,) the largest exponent of every row."""
    K, m = kernel.shape
    for i in range(m):
        for k in range(K):
            kernel[k, i] = C[i, k]
    top[:] = LOWEST
    for k in range(K):
        for i in range(m):
            kernel[k, i] = (g[k] - kernel[k, i]) / eps
            top[i] = max(top[i], kernel[k, i])
    for k in range(K):
        _exponentials(kernel[k], top, bits)


@vectorised
def _marginals(kernel, u, a, s, columns, hessian, curved, Q, root, log_s, power):
    """One block's part of :func:`_evaluate`; Q (K, m) and what follows is space to work in."""
    K, m = kernel.shape
    s[:] = 0.0
    for k in range(K):
        for i in range(m):
            s[i] += kernel[k, i] * u[k]
    total = 0.0
    log_s[:] = s
    _logarithms(log_s, power)
    for i in range(m):
        total += a[i] * log_s[i]
        root[i] = math.sqrt(a[i]) / s[i]
    for k in range(K):
        mass = 0.0
        for i in range(m):
            Q[k, i] = kernel[k, i] * u[k] * root[i]  # P / sqrt(a)
            mass += Q[k, i] * root[i] * s[i]
        columns[k] += mass
    if curved:
        for k in range(K):
            for j in range(k + 1):
                product = 0.0
                for i in range(m):
                    product += Q[k, i] * Q[j, i]
                hessian[k, j] -= product
    return total


@vectorised
def _fill_kernel(C, g, eps, kernel, top):
    """The kernel for potentials ``g`` from the cost (n, K), block by block."""
    n, K = C.shape
    bits = np.empty(BLOCK, np.int64)
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        _fill(C[first:last], g, eps, kernel[first * K:last * K].reshape(K, last - first), top[first:last], bits)


@vectorised
def _evaluate(kernel, u, a, s, columns, hessian, curved):
    """At potentials moved by eps log u: row sums of the kernel, column sums of the plan and, if ``curved``, their derivative.

    hessian = diag(columns) - P^T diag(1/a) P, that of minus the dual times eps. Returns sum a log s.
    """
    n, K = len(a), len(u)
    Q, root, log_s, power = np.empty((K, BLOCK)), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    columns[:] = 0.0
    if curved:
        hessian[:] = 0.0
    total = 0.0
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        m = last - first
        total += _marginals(kernel[first * K:last * K].reshape(K, m), u, a[first:last], s[first:last], columns, hessian, curved,
                            Q, root[:m], log_s[:m], power[:m])
    if curved:
        for k in range(K):
            for j in range(k):
                hessian[j, k] = hessian[k, j]
            hessian[k, k] += columns[k]
    return total


@vectorised
def _write(kernel, u, a, s, top, eps, shift, plan, f, P, excess, power):
    """One block of :func:`_finish`, from ``kernel`` (K, m) in the memory of ``plan`` (m, K)."""
    K, m = kernel.shape
    for i in range(m):
        f[i] = max(a[i] / s[i], TINY)
        excess[i] = -a[i]
    for k in range(K):
        for i in range(m):
            P[k, i] = kernel[k, i] * u[k] * (a[i] / s[i])
            excess[i] += P[k, i]
    for i in range(m):
        for k in range(K):
            plan[i, k] = P[k, i]
    _logarithms(f, power)
    value = error = 0.0
    for i in range(m):
        f[i] = eps * (f[i] - top[i]) + shift
        value += a[i] * f[i]
        error += abs(excess[i])
    return value, error


@vectorised
def _finish(kernel, u, a, s, top, eps, shift, plan, f):
    """Turns the kernel into the plan that shares its memory. Returns sum a f and the L1 error of the rows."""
    n, K = plan.shape
    P, excess, power = np.empty((K, BLOCK)), np.empty(BLOCK), np.empty(BLOCK)
    value = error = 0.0
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        m = last - first
        found = _write(kernel[first * K:last * K].reshape(K, m), u, a[first:last], s[first:last], top[first:last], eps, shift,
                       plan[first:last], f[first:last], P, excess[:m], power[:m])
        value, error = value + found[0], error + found[1]
    return value, error


@compiled
def _factorise(A):
    """The lower triangle of A becomes its Cholesky factor; a pivot that rounding made negative is left out of the step."""
    for k in range(len(A)):
        for j in range(k + 1):
            t = A[k, j]
            for i in range(j):
                t -= A[k, i] * A[j, i]
            if k == j:
                A[k, k] = math.sqrt(t) if t > 1e-18 else 1e18
            else:
                A[k, j] = t / A[j, j]


@compiled
def _substitute(A, x):
    """x := A^-1 x for a factorised A, in place."""
    K = len(x)
    for k in range(K):
        for j in range(k):
            x[k] -= A[k, j] * x[j]
        x[k] /= A[k, k]
    for k in range(K - 1, -1, -1):
        for j in range(k + 1, K):
            x[k] -= A[j, k] * x[j]
        x[k] /= A[k, k]


@compiled
def maximise(C, a, b, g, eps, rho, tol, max_iter, reach, kernel, top, s, columns):
    """Damped Newton for one epsilon, from potentials ``g`` (K,), in place. ``rho`` is infinite for a hard constraint.

    Leaves the kernel and its row sums s at what is returned: u (K,) with the plan P = a kernel u / s, whose
    column sums are ``columns``, their L1 error, and the number of evaluations.
    """
    K = len(g)
    hard = math.isinf(rho)
    u, moved, target, step, hessian = np.ones(K), np.empty(K), b.copy(), np.empty(K), np.empty((K, K))
    used = 1
    curved = yes = used > 0  # for a True that it can see, numba would compile all that is called once more
    _fill_kernel(C, g, eps, kernel, top)
    total = _evaluate(kernel, u, a, s, columns, hessian, curved)
    while True:
        if not hard:
            target[:] = b * np.exp(-g / rho)
        gradient = target - columns
        error = np.abs(gradient).sum()
        if error <= tol or used >= max_iter:
            return u, error, used
        if curved:
            for k in range(K):  # a column without weight is left alone
                hessian[k, k] += (1e-12 if b[k] > 0 else 1.0) + (0.0 if hard else eps / rho * target[k])
            if hard:
                hessian += 1 / K**2  # constants do not matter: the null space made regular
            _factorise(hessian)
        step[:] = gradient
        _substitute(hessian, step)
        if hard:
            step -= step.mean()
        step *= reach / max(reach, np.abs(step).max())
        slope = (gradient * step).sum()
        # Near the optimum a step of size h leaves less than h times the error, with the curvature of the point before too
        curved = error * (np.abs(step).max() * max(1.0, eps / rho)) ** 2 > tol
        t = 1.0
        for _ in range(30):  # backtracking on the dual
            moved[:] = u * np.exp(t * step)
            gain = t * (b * step).sum() if hard else -rho / eps * (target * np.expm1(-eps / rho * t * step)).sum()
            new = _evaluate(kernel, moved, a, s, columns, hessian, curved)
            used += 1
            if gain - (new - total) >= 1e-4 * t * slope - 1e-14 or used >= max_iter:
                break
            t /= 4
        total = new
        g += eps * t * step
        u[:] = moved
        if np.abs(np.log(u)).max() > reach:
            _fill_kernel(C, g, eps, kernel, top)
            u[:], curved = 1.0, yes
            total = _evaluate(kernel, u, a, s, columns, hessian, curved)


@compiled
def newton(C, a, b, g, eps, rho, tol, max_iter, anneal, tuning, plan, f):
    """Fills plan (n, K) and f (n,), and g (K,) that it starts from: at ``eps``, or with ``anneal`` at a level above it.

    ``tuning`` is FIRST, ANNEAL, ROUGH and REACH of :mod:`genclust.ot`: given, as a cached function would not see them change.
    Returns the regularised value, the L1 errors of rows and columns, and the number of evaluations.
    """
    (n, K), (first, factor, rough, reach) = C.shape, tuning
    kernel, top, s, columns = plan.reshape(-1), np.empty(n), np.empty(n), np.empty(K)
    used, level, spread, every = 0, eps, 0.0, 1 + n // 64
    if anneal:
        for i in range(0, n, every):
            spread += first * (C[i].mean() - C[i].min()) / len(range(0, n, every))
        while level < spread:
            level *= factor
    last = False
    while not last:
        last = level <= eps * 1.0001 or used >= max_iter  # too late: an approximate plan for the epsilon that was asked for
        u, column_error, steps = maximise(C, a, b, g, eps if last else level, rho, tol if last else max(tol, rough),
                                          max(max_iter - used, 1), reach, kernel, top, s, columns)
        used, level = used + steps, max(level / factor, eps)
    shift = 0.0
    if math.isinf(rho):  # constants may go from g to f: g of mean 0
        shift = g.mean()
        g -= shift
    value, row_error = _finish(kernel, u, a, s, top, eps, shift, plan, f)
    value += (columns * g).sum() - eps
    if not math.isinf(rho):
        for k in range(K):
            value += rho * (columns[k] * math.log(max(columns[k], TINY) / max(b[k], TINY)) - columns[k] + b[k])
    return value, row_error, column_error, used
