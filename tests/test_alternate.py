"""Adversarial phases of the trainer: whose turn it is, who may change, what survives a kill or a divergence."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import genclust
from genclust.base import Diverged, Player, Trainer, read_tensors
from genclust.draws import Generators, draw

X = torch.randn(50, 2, generator=torch.Generator().manual_seed(9)) + 3


class Owner:
    verbose = 0


class Game(nn.Module):
    """A critic that is a direction of unit square, and a generator that is a point."""

    def __init__(self):
        super().__init__()
        self.register_buffer("unknown", torch.tensor(float("nan")))  # a measure that there is none of is no divergence
        self.critic = nn.Parameter(torch.tensor([0.1, -0.1]))
        self.point = nn.Parameter(torch.zeros(2))


def play(checkpoint=None, iterations=40, *, generator=None, callback=None, save_every=0.0, rate=0.05, breaks_at=None, log_every=10, **options):
    """One fit by two players, one with Adam and one with RMSprop; the trainer and the module. ``rate`` is the second's, whose loss is NaN
    in the iteration ``breaks_at``."""
    game, turns = Game(), []
    trainer = Trainer(Owner(), game, X, generator=generator or torch.Generator().manual_seed(0), dtype=torch.float32,
                      checkpoint=checkpoint, fingerprint="one", callback=callback, save_every=save_every, **options)

    def critic():
        turns.append("critic")
        gap = (trainer.batch(8) - game.point).mean(0) @ game.critic
        return game.critic.square().sum() / 2 - gap, {"gap": gap}

    def mover():
        turns.append("mover")
        noise = draw(torch.randn, 2, source=trainer.generator)
        value = -(game.point + 0.01 * noise) @ game.critic
        return value * torch.nan if turns.count("mover") - 1 == breaks_at else value, {}

    players = [Player("critic", critic, torch.optim.Adam([game.critic], lr=0.05, betas=(0.5, 0.9)), steps=3),
               Player("mover", mover, torch.optim.RMSprop([game.point], lr=rate), after=lambda: game.point.data.clamp_(-9, 9))]
    if not trainer.finished:
        trainer.once("start", lambda: None)
        trainer.alternate("play", players, iterations=iterations, log_every=log_every)
        trainer.finish()
    return trainer, game, turns


def timeless(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def assert_same(one, other):
    for name, tensor in one[1].state_dict().items():
        assert torch.equal(tensor, other[1].state_dict()[name]) or name == "unknown", name
    assert timeless(one[0].history) == timeless(other[0].history)
    assert torch.equal(one[0].generator.get_state(), other[0].generator.get_state())


def test_players_take_turns_and_the_game_ends_where_it_should():
    trainer, game, turns = play(iterations=300)
    assert turns == ["critic", "critic", "critic", "mover"] * 300
    assert [row["epoch"] for row in trainer.history] == list(range(10, 301, 10))
    assert all({"phase", "seconds", "critic", "mover", "gap"} <= set(row) for row in trainer.history)
    assert (game.point - X.mean(0)).abs().max() < 0.5  # it moved from 0 to the mean of the data, near 3


def test_a_player_changes_only_its_own():
    _, game, _ = play(rate=0.0)
    assert torch.equal(game.point, torch.zeros(2))
    assert not torch.equal(game.critic, Game().critic) and game.point.grad is None


def test_last_iterations_are_logged_too():
    trainer, *_ = play(iterations=25)
    assert [row["epoch"] for row in trainer.history] == [10, 20, 25]
    each = [row["gap"] for row in play(iterations=25, log_every=1)[0].history]
    means = [np.mean(each[:10]), np.mean(each[10:20]), np.mean(each[20:])]
    assert [row["gap"] for row in trainer.history] == pytest.approx(means, rel=1e-5)


def test_max_steps_ends_after_a_whole_iteration():
    trainer, _, turns = play(max_steps=5)
    assert turns == ["critic", "critic", "critic", "mover"] * 2
    assert len(trainer.step_losses["play"]) == 8 and trainer.history == []
    assert trainer.step_losses["play"] == play(max_steps=5)[0].step_losses["play"]


class Stop(Exception):
    pass


def stop_at(iteration):
    def callback(owner, phase, epoch, logs):
        if epoch == iteration:
            raise Stop
    return callback


def test_interrupted_game_goes_on_bit_for_bit(tmp_path):
    path = tmp_path / "game.safetensors"
    with pytest.raises(Stop):
        play(path, callback=stop_at(30))
    resumed = play(path)
    assert resumed[2] == ["critic", "critic", "critic", "mover"] * 20
    assert_same(resumed, play())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["meta"])["phase"] == "finished"
    again = play(path)
    assert again[2] == []
    assert_same(again, play())


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_alternate import play
play(Path(sys.argv[1]), callback=lambda owner, phase, epoch, logs: epoch == 30 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_killed_game_goes_on_bit_for_bit(tmp_path):
    path = tmp_path / "game.safetensors"
    environment = os.environ | {"PYTHONPATH": str(Path(genclust.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)], env=environment, timeout=120,
                          capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    tensors, meta = read_tensors(path)
    assert (meta["phase"], meta["epoch"]) == ("play", 20)
    assert {"optimizer.0.exp_avg", "optimizer.1.square_avg"} <= set(tensors)  # both players' optimizers
    assert_same(play(path), play())


def test_divergence_leaves_the_last_finite_state(tmp_path):
    path = tmp_path / "game.safetensors"
    held = []
    with pytest.raises(Diverged, match="'play' diverged by iteration 30.*after iteration 20") as error:
        play(path, breaks_at=27, save_every=1e9, callback=lambda owner, phase, epoch, logs: held.append(epoch))
    assert error.value.iteration == 30 and held == [10, 20]
    tensors, meta = read_tensors(path)
    assert meta["epoch"] == 20 and [row["epoch"] for row in meta["history"]] == [10, 20]
    good = play(iterations=20)
    for name, tensor in good[1].state_dict().items():
        assert torch.equal(tensors[f"module.{name}"], tensor) or name == "unknown"


def test_replicas_draw_what_they_would_draw_alone():
    seeds = (3, 1, 4)
    many, solo = Generators(seeds), [torch.Generator().manual_seed(seed) for seed in seeds]
    for function, size in ((torch.randn, (2, 5)), (torch.randperm, (6,)), (torch.rand, (3,)), (torch.randint, (9, (4,)))):
        together = draw(function, *size, source=many)
        for r, alone in enumerate(solo):
            assert torch.equal(together[r], draw(function, *size, source=alone))
    state, expected = many.get_state(), draw(torch.randn, 2, source=many)
    other = Generators((7, 8, 9))
    other.set_state(state)
    assert torch.equal(draw(torch.randn, 2, source=other), expected)
