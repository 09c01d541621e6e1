"""Fréchet distances between images: a measuring device, which nothing that is trained ever sees.

The published distances are between features of an Inception network. Where torchvision's weights of it lie in
torch's cache (``torchvision.models.inception_v3(weights="DEFAULT")`` puts them there) they are used, and the
distance is called ``fid_inception``. Everywhere it is measured by a small classifier too, trained here *with the labels*
of the data set, and that distance is called ``fid_classifier``: it orders models, and is on a scale of its own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import read_tensors, write_tensors
from ..datasets import load
from ..files import acquire
from ..hierarchical import HierarchicalAutoencoder
from ..hrwae import infer_image_shape, padded_side
from ..networks import linear
from .files import project_root
from .provenance import library_digest

FEATURES, EPOCHS, BATCH, RATE = 64, 3, 256, 1e-3
INCEPTION = "inception_v3_google-0cc3c7bd.pth"


class Classifier(nn.Module):
    """The encoder of this book's own networks, 64 features on top of it, and the classes on top of these."""

    def __init__(self, shape: tuple[int, int, int], n_classes: int):
        super().__init__()
        height, width, channels = self.shape = shape
        side = padded_side(height, width)
        self.padding = ((side - width) // 2, side - width - (side - width) // 2,
                        (side - height) // 2, side - height - (side - height) // 2)
        generator = torch.Generator().manual_seed(0)
        cells = HierarchicalAutoencoder(side, channels, 1, 1, 16, 0, generator).encoder
        self.cells = nn.Sequential(*cells, nn.Flatten())
        n_in = self.cells[-2][0].out_channels * 4
        self.features = linear(n_in, FEATURES, generator)
        self.classes = linear(FEATURES, n_classes, generator)
        self.num_features = FEATURES  # asked for by torchmetrics

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n, D) in [0, 1] -> features (n, 64)."""
        images = F.pad(x.view(len(x), *self.shape).permute(0, 3, 1, 2), self.padding)
        return self.features(self.cells(images)).relu()


@cache
def classifier(dataset: str, folder: Path | None = None) -> Classifier:
    """The classifier of a data set: trained on all its rows (about a minute on one core), once, then kept in ``folder``."""
    data = load(dataset)
    net = Classifier(infer_image_shape(data.X.shape[1]), len(data.class_names))
    folder = folder or project_root() / "build" / "fid"
    path = folder / f"{dataset}-{data.digest[:8]}-{library_digest('lab.fid')}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with acquire(path.with_suffix(".lock")):
        if path.exists():
            net.load_state_dict(read_tensors(path)[0])
        else:
            _train(net, torch.from_numpy(data.X), torch.from_numpy(data.y))
            write_tensors(path, net.state_dict(), {})
    return net.eval()


@torch.enable_grad()  # whoever asks for its probabilities first has no use for gradients
def _train(net: Classifier, X: Tensor, y: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    net.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(X), generator=generator).split(BATCH):
            adam.zero_grad()
            F.cross_entropy(net.classes(net(X[rows])), y[rows]).backward()
            adam.step()


@torch.no_grad()
def class_probabilities(dataset: str, rows: np.ndarray) -> np.ndarray:
    """What that classifier gives to rows (n, D) in [0, 1]: (n, classes) float32."""
    net = classifier(dataset)
    return net.classes(net(torch.from_numpy(np.clip(rows, 0, 1)).float())).softmax(1).numpy()


class Inception(nn.Module):
    """torchvision's Inception up to its 2048 pooled features, for rows (n, D) in [0, 1] of a given image shape."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        from torchvision.models import Inception_V3_Weights, inception_v3
        self.shape = shape
        self.net = inception_v3(weights=Inception_V3_Weights.DEFAULT).eval()
        self.net.fc = nn.Identity()
        self.net.transform_input = False  # the weights switch it on, for ImageNet's scale; what it gets here is in [-1, 1] already
        self.num_features = 2048

    def forward(self, x: Tensor) -> Tensor:
        images = x.view(len(x), *self.shape).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        large = F.interpolate(images, size=(299, 299), mode="bilinear", antialias=True)
        return self.net(2 * large - 1)


def inception_at_hand() -> bool:
    """Whether torchvision's weights lie in torch's cache; nothing is downloaded for a measurement."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION).exists()


@torch.no_grad()
def frechet_distance(network: nn.Module, real: np.ndarray, fake: np.ndarray) -> float:
    """torchmetrics' Fréchet distance of the features of two sets of rows, (n, D) and (m, D)."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    metric = FrechetInceptionDistance(feature=network, normalize=True, input_img_size=(1, 1, 1))
    for rows, kind in ((real, True), (fake, False)):
        for piece in torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).split(500):
            metric.update(piece, real=kind)
    return float(metric.compute())


def distances(dataset: str, real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """``fid_classifier``, and ``fid_inception`` where its weights are at hand, of generated rows in [0, 1]."""
    fake = np.clip(fake, 0, 1)
    found = {"fid_classifier": frechet_distance(classifier(dataset), real, fake)}
    if inception_at_hand():
        found["fid_inception"] = frechet_distance(Inception(infer_image_shape(real.shape[1])), real, fake)
    return found
