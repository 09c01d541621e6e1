"""Optimal transport: optimality, limits with known answers, derivatives, bad input."""

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.autograd import gradcheck

from genclust import ot
from genclust.ot import NotConverged, squared_distances, transport, unrolled_sinkhorn

PENALTIES = (None, 0.5, 0)


def problem(n=40, K=5, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    z, centers = (torch.randn(m, 3, generator=generator, dtype=torch.float64) for m in (n, K))
    return squared_distances(z, spread * centers)


def weights(size, seed=1):
    w = torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    return w / w.sum()


@pytest.fixture(params=["compiled", "tensors"])
def solver(request, monkeypatch):
    """Newton both ways: the compiled one, and the one that other devices use."""
    if request.param == "tensors":
        monkeypatch.setattr(ot, "_newton_compiled", ot._newton)


@pytest.mark.parametrize("epsilon", [10, 1, 0.1, 0.01, 1e-3, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_newton_is_optimal_for_every_epsilon(solver, epsilon, dtype):
    C, a, b = problem(200, 7).to(dtype), weights(200), weights(7)
    eps = epsilon * float(C.mean())
    t = transport(C, eps, a=a, b=b)
    assert t.plan.dtype == dtype and t.n_iter <= 60
    assert t.row_error < 1e-12 and t.column_error <= 1e-6
    # Optimality: P = exp((f + g - C) / eps) and both marginals
    P = ((t.row_potentials[:, None] + t.potentials - C.double()) / eps).exp()
    assert torch.allclose(P, t.plan.double(), atol=1e-7)
    assert (P.sum(0) - b).abs().sum() < 2e-6 and (P.sum(1) - a).abs().sum() < 1e-8
    direct = (P * (C.double() + eps * (P.clamp_min(1e-300).log() - 1))).sum()
    assert torch.isclose(t.value.double(), direct, rtol=1e-5 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("size_penalty", [None, 0.3, 5.0])
def test_newton_agrees_with_sinkhorn(solver, size_penalty):
    C, a, b = problem(), weights(40), weights(5)
    newton, sinkhorn = (transport(C, 0.2, a=a, b=b, size_penalty=size_penalty, method=m, tol=1e-10) for m in ("newton", "sinkhorn"))
    assert torch.allclose(newton.plan, sinkhorn.plan, atol=1e-9)
    assert torch.isclose(newton.value, sinkhorn.value, rtol=1e-9)
    assert newton.n_iter < sinkhorn.n_iter


def test_penalised_value_is_the_least(solver):
    """The unbalanced plan beats every other plan with the same rows, on the penalised problem written out."""
    C, b, rho, eps = problem(), weights(5), 0.7, 0.3
    t = transport(C, eps, b=b, size_penalty=rho)

    def objective(P):
        p = P.sum(0)
        return (P * (C + eps * (P.log() - 1))).sum() + rho * (p * (p / b).log() - p + b).sum()

    assert torch.isclose(objective(t.plan), t.value, rtol=1e-9)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1, 1.0):
        other = t.plan * (size * torch.randn(t.plan.shape, generator=generator, dtype=torch.float64)).exp()
        other = other / other.sum(1, keepdim=True) / 40
        assert objective(other) > t.value


def test_small_epsilon_gives_the_assignment_problem(solver):
    """Proposition 1: with n = m K rows the unregularised plan is a matching of rows to m copies of every column."""
    C = problem(60, 6, seed=3)
    rows, copies = linear_sum_assignment(C.repeat(1, 10).numpy())
    exact = C[rows, copies % 6].mean()
    t = transport(C, 1e-4 * float(C.mean()))
    assert torch.isclose((t.plan * C).sum(), exact, rtol=1e-5)
    assert (t.plan.argmax(1).numpy() == copies[np.argsort(rows)] % 6).all()


def test_large_epsilon_gives_the_product_of_the_weights(solver):
    C, a, b = problem(), weights(40), weights(5)
    t = transport(C, 1e6, a=a, b=b)
    assert torch.allclose(t.plan, a[:, None] * b, atol=1e-7)


def test_without_a_column_constraint_it_is_soft_k_means():
    """Proposition 2, equation 7."""
    C = problem()
    t = transport(C, 0.3, size_penalty=0)
    assert torch.allclose(t.plan, (-C / 0.3).softmax(1) / 40, atol=1e-15)
    assert torch.allclose(transport(C, 0.3, size_penalty=1e-9).plan, t.plan, atol=1e-6)
    assert torch.allclose(transport(C, 0.3, size_penalty=1e9).plan, transport(C, 0.3).plan, atol=1e-6)


def test_diracs_and_identical_points(solver):
    one = transport(torch.full((3, 1), 2.0, dtype=torch.float64), 0.1)
    assert torch.allclose(one.plan, torch.full((3, 1), 1 / 3, dtype=torch.float64))
    assert float(one.value) == pytest.approx(2 + 0.1 * (np.log(1 / 3) - 1))
    same = transport(torch.zeros(6, 3), 0.1)
    assert torch.allclose(same.plan, torch.full((6, 3), 1 / 18))


@pytest.mark.parametrize("method", ["newton", "sinkhorn"])
def test_weights_of_zero(solver, method):
    b = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64)
    a = torch.cat([torch.zeros(1), torch.full((9,), 1 / 9)]).double()
    t = transport(problem(10, 3), 0.5, a=a, b=b, method=method, tol=1e-8)
    assert t.plan[:, 1].sum() < 1e-8 and t.plan[0].sum() == 0 and torch.isfinite(t.plan).all() and torch.isfinite(t.value)


@pytest.mark.parametrize("size_penalty", [None, 0.5])
def test_a_column_without_weight_is_as_if_it_were_not_there(solver, size_penalty):
    """Its plan and the derivatives in its costs and weight are zero; all else is as in the problem without it, alone or in a batch."""
    C, target = problem(20, 4), torch.rand(20, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    present, results = torch.tensor([0, 2, 3]), []
    for columns, b in ((torch.arange(4), torch.tensor([0.2, 0.0, 0.5, 0.3])), (present, torch.tensor([0.2, 0.5, 0.3]))):
        cost, b = C[:, columns].requires_grad_(), b.double().requires_grad_()
        t = transport(cost, 0.5, b=b, size_penalty=size_penalty, tol=1e-12)
        many = transport(cost[None].repeat(2, 1, 1), 0.5, b=torch.stack([b, b.flip(0)]), size_penalty=size_penalty, tol=1e-12)
        assert torch.allclose(many.plan[0], t.plan, atol=1e-12)
        gradients = torch.autograd.grad((t.plan * target[:, columns]).sum() + t.value, (cost, b))
        results.append((t.plan, t.value, *gradients))
    (plan, value, in_C, in_b), without = results
    assert (plan[:, 1] == 0).all() and (in_C[:, 1] == 0).all() and in_b[1] == 0
    for one, two in zip((plan[:, present], value, in_C[:, present], in_b[present]), without):
        assert torch.allclose(one, two, atol=1e-9)


def test_a_sample_that_says_nothing_of_the_rest_is_not_insisted_on(solver, monkeypatch):
    """Large problems begin with a sample of their rows: here all of another kind, or all without weight."""
    monkeypatch.setattr(ot, "SAMPLE", 50)
    C = problem(400, 5)
    C[::8] = 10 * problem(50, 5, seed=4)
    for a in (None, torch.ones(400).double().index_fill(0, torch.arange(0, 400, 8), 0.0) / 350):
        for eps in (1.0, 0.01, 1e-4):
            t = transport(C, eps * float(C.mean()), a=a)
            with monkeypatch.context() as without:
                without.setattr(ot, "SAMPLE", 1000)
                whole = transport(C, eps * float(C.mean()), a=a)
            assert t.column_error <= 1e-6 and torch.isclose(t.value, whole.value, rtol=1e-6)
            assert torch.allclose(t.plan, whole.plan, atol=1e-6)


@pytest.mark.parametrize("size_penalty", [None, 0.3])
def test_both_forms_of_newton_agree(monkeypatch, size_penalty):
    wanted = dict(a=weights(700), b=weights(7), size_penalty=size_penalty, tol=1e-12)
    compiled = transport(problem(700, 7), 0.1, **wanted)
    monkeypatch.setattr(ot, "_newton_compiled", ot._newton)
    tensors = transport(problem(700, 7), 0.1, **wanted)
    for field in ("plan", "value", "row_potentials", "potentials"):
        assert torch.allclose(getattr(compiled, field), getattr(tensors, field), rtol=1e-10, atol=1e-10), field


@pytest.mark.parametrize("max_iter", [None, 21])
def test_both_forms_of_newton_count_the_steps_that_were_too_long(max_iter, monkeypatch, recwarn):
    C = problem(200, 7)
    used = []
    for _ in range(2):
        used.append(transport(C, 1e-4 * float(C.mean()), max_iter=max_iter).n_iter)
        monkeypatch.setattr(ot, "_newton_compiled", ot._newton)
    assert used[0] == used[1] and bool(recwarn) == (max_iter is not None)


def test_a_batch_of_problems_is_each_of_them(solver):
    many = torch.stack([problem(30, 4, seed) * scale for seed, scale in ((0, 1), (1, 5), (2, 0.01))])
    b = torch.stack([weights(4, seed) for seed in range(3)])
    together = transport(many, 0.05, b=b, tol=1e-9)
    assert together.plan.shape == (3, 30, 4) and together.value.shape == (3,)
    for r in range(3):
        alone = transport(many[r], 0.05, b=b[r], tol=1e-9)
        assert torch.allclose(together.plan[r], alone.plan, atol=1e-9)
        assert torch.isclose(together.value[r], alone.value)


def test_a_warm_start_saves_evaluations(solver):
    C = problem(300, 10)
    cold = transport(C, 0.01)
    warm = transport(C + 1e-3 * torch.rand(C.shape, dtype=torch.float64), 0.01, start=cold.potentials)
    assert warm.n_iter < cold.n_iter and warm.column_error <= 1e-6


def test_a_start_of_another_problem_is_not_insisted_on(solver):
    """Codes far apart and an epsilon of a millionth of the cost: from useless potentials Newton alone gets stuck."""
    generator = torch.Generator().manual_seed(0)
    centers = 3 * torch.randn(10, 10, generator=generator, dtype=torch.float64)
    rows = [centers[torch.randint(10, (300,), generator=generator)] for _ in range(2)]
    costs = [squared_distances(z + 0.1 * torch.randn(z.shape, generator=generator, dtype=torch.float64), centers) for z in rows]
    eps = 1e-5 * float(costs[0].mean())
    t = transport(costs[1], eps, start=transport(costs[0], eps).potentials)
    assert t.column_error <= 1e-6


@pytest.mark.parametrize("size_penalty", PENALTIES)
@pytest.mark.parametrize("part", ["value", "plan"])
def test_derivatives(size_penalty, part):
    C = problem(8, 3).requires_grad_()
    logits_a, logits_b = (torch.randn(m, generator=torch.Generator().manual_seed(m), dtype=torch.float64, requires_grad=True) for m in (8, 3))

    def function(C, la, lb):
        t = transport(C, 0.5, a=la.softmax(0), b=lb.softmax(0), size_penalty=size_penalty, tol=1e-13)
        return getattr(t, part)

    assert gradcheck(function, (C, logits_a, logits_b), atol=1e-6)


@pytest.mark.parametrize("apart", [1.0, 4.0, 16.0])
def test_the_plan_of_clusters_far_apart_has_derivatives_of_nothing(apart):
    """No row is shared, so that no small change moves the plan, and the system of its derivatives has no rank."""
    generator = torch.Generator().manual_seed(0)
    centers = apart * torch.eye(3, dtype=torch.float64)
    z = centers.repeat(20, 1) + 0.01 * torch.randn(60, 3, generator=generator, dtype=torch.float64)
    C = squared_distances(z, centers).requires_grad_()
    plan = transport(C, 0.01).plan
    (grad,) = torch.autograd.grad((plan * torch.rand(plan.shape, generator=generator, dtype=torch.float64)).sum(), C)
    assert torch.allclose(grad, torch.zeros_like(grad), atol=1e-9)


def test_derivatives_equal_those_through_the_iterations():
    C = problem(20, 4).requires_grad_()
    target = torch.rand(20, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    plan, value = unrolled_sinkhorn(C, 0.5, 500)
    solved = transport(C, 0.5, tol=1e-13)
    assert torch.allclose(plan, solved.plan, atol=1e-10) and torch.isclose(value, solved.value)
    for through, implicit in ((value, solved.value), ((plan * target).sum(), (solved.plan * target).sum())):
        (one,), (two,) = (torch.autograd.grad(x, C, retain_graph=True) for x in (through, implicit))
        assert torch.allclose(one, two, atol=1e-9)


def test_the_values_gradient_is_the_plan():
    C = problem().float().requires_grad_()
    t = transport(C, 0.1)
    t.value.backward()
    assert torch.allclose(C.grad, t.plan.detach(), atol=1e-7)


def test_few_iterations_of_algorithm_1_leave_the_rows_wrong():
    plan, _ = unrolled_sinkhorn(problem(), 0.01, 2)
    assert torch.allclose(plan.sum(0), torch.full((5,), 0.2, dtype=torch.float64))
    assert (plan.sum(1) - 1 / 40).abs().sum() > 1e-3


def test_with_the_rows_last_the_columns_are_wrong_instead():
    plan, _ = unrolled_sinkhorn(problem(), 0.01, 2, last="rows")
    assert torch.allclose(plan.sum(1), torch.full((40,), 1 / 40, dtype=torch.float64))
    assert (plan.sum(0) - 0.2).abs().sum() > 1e-3
    both = [unrolled_sinkhorn(problem(), 0.5, 500, last=last)[0] for last in ("rows", "columns")]
    assert torch.allclose(*both, atol=1e-10)
    with pytest.raises(ValueError, match="last='sizes': use columns or rows"):
        unrolled_sinkhorn(problem(), 0.5, 5, last="sizes")


def test_many_columns_are_left_to_sinkhorn_where_epsilon_is_large(monkeypatch):
    used = []
    real = ot._solve
    monkeypatch.setattr(ot, "_solve", lambda *args: used.append(args[6]) or real(*args))
    C = problem(150, 120)
    for epsilon in (0.5 * float(C.mean()), 0.02 * float(C.mean())):
        assert transport(C, epsilon).column_error <= 1e-6
    transport(C[:, :100], 0.5 * float(C.mean()))
    assert used == ["sinkhorn", "newton", "newton"]


@pytest.mark.parametrize("method", ["newton", "sinkhorn"])
def test_no_wrong_plan_is_silent(method):
    C = problem(200, 7)
    with pytest.warns(NotConverged, match="marginal error of nan"):  # C / epsilon overflows
        t = transport(C, 1e-310, method=method)
    assert t.n_iter < 1000  # Sinkhorn does not go on to its limit in vain


def test_rows_keep_their_weight_where_costs_are_huge():
    C = problem(200, 7)
    for t in (transport(C + 1e12, 0.1, size_penalty=0), transport(C + 1e12, 0.1, method="sinkhorn")):
        assert t.row_error < 1e-12


def test_a_limit_is_a_warning_with_the_error(solver):
    C = problem(200, 7)
    for method, few in (("newton", 3), ("sinkhorn", 5)):
        with pytest.warns(NotConverged, match=r"marginal error of [0-9.e-]+ \(tol 1e-06, epsilon 0\.001\)"):
            t = transport(C, 0.001, method=method, max_iter=few)
        assert t.column_error > 1e-6 and torch.isfinite(t.plan).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transport(C, 0.001)


BAD = {
    "epsilon": dict(epsilon=0), "epsilon=nan": dict(epsilon=float("nan")), "epsilon=inf": dict(epsilon=float("inf")),
    "cost has entries that are not finite": dict(cost=torch.tensor([[1.0], [float("nan")]])),
    "cost has entries that are not": dict(cost=torch.tensor([[1.0], [float("inf")]])),
    "cost must be a tensor": dict(cost=torch.zeros(0, 3)), "cost must be": dict(cost=torch.zeros(3)),
    "cost has 5 columns for 4 rows": dict(cost=torch.zeros(4, 5)),
    "b has entries that are negative": dict(b=torch.tensor([1.5, -0.5, 0.0])),
    "b sums to 0.9": dict(b=torch.tensor([0.3, 0.3, 0.3])),
    "b has shape": dict(b=torch.tensor([0.5, 0.5])), "a sums to": dict(a=torch.ones(6)),
    "b has entries that are negative or": dict(b=torch.tensor([float("nan"), 0.5, 0.5])),
    "size_penalty": dict(size_penalty=-1.0), "method": dict(method="simplex"), "tol": dict(tol=0.0),
    "max_iter=0": dict(max_iter=0), "max_iter=2.5: give a whole number": dict(max_iter=2.5), "start must be a tensor of 3": dict(start=torch.zeros(2)),
    "tol='x': give a number": dict(tol="x"), "size_penalty='x': give None": dict(size_penalty="x"), "b is str": dict(b="x"),
    "a is list": dict(a=[[1.0], [0.5, 0.5]]), r"method=\[\]: use one of": dict(method=[]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_names_the_argument(message):
    given = {"cost": torch.rand(6, 3), "epsilon": 0.1} | BAD[message]
    with pytest.raises(ValueError, match=message):
        transport(given.pop("cost"), given.pop("epsilon"), **given)


@pytest.mark.parametrize("n_iter", [0, None])
def test_a_number_of_iterations_that_is_none_is_refused(n_iter):
    with pytest.raises(ValueError, match=f"n_iter={n_iter}: give a whole number from 1"):
        unrolled_sinkhorn(problem(), 0.5, n_iter)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_a_cost_of_whole_numbers_is_refused(dtype):
    for solve in (lambda C: transport(C, 1.0), lambda C: unrolled_sinkhorn(C, 1.0, 5)):
        with pytest.raises(ValueError, match=f"cost has the type {dtype}.*give cost.double"):
            solve(torch.ones(6, 2, dtype=dtype))


def test_second_derivatives_are_refused_where_they_would_be_nothing():
    C = problem(8, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(transport(C, 0.2).value, C, create_graph=True)
    (gradient,) = torch.autograd.grad(transport(C, 0.2).value, C)
    assert gradient.abs().sum() > 0


def test_a_number_is_a_number_whatever_its_type():
    C = problem(8, 3)
    assert torch.equal(transport(C, np.float32(0.5)).plan, transport(C, 0.5).plan)
    assert torch.equal(transport(C, np.int64(1)).plan, transport(C, 1.0).plan)
