"""Random draws for one fit, or for replicas side by side that each draw what they would draw alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Generators:
    """A random generator for each of R replicas, saved and restored as one: its state is (R, bytes)."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu"):
        self.each = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def get_state(self) -> Tensor:
        return torch.stack([generator.get_state() for generator in self.each])

    def set_state(self, states: Tensor) -> None:
        for generator, state in zip(self.each, states):
            generator.set_state(state.clone())  # torch reads a view from the beginning of its storage


Source = torch.Generator | Generators


def draw(function: Callable[..., Tensor], *size, source: Source) -> Tensor:
    """``function(*size)`` from a source: ``draw(torch.randn, 3, 4, source=...)`` is (3, 4), or (R, 3, 4) of replicas."""
    if isinstance(source, Generators):
        return torch.stack([draw(function, *size, source=generator) for generator in source.each])
    return function(*size, generator=source, device=source.device)
