"""Deep generative clustering: the models, their metrics and their data.

Estimators are imported on first use, so that ``import genclust`` does not wait for torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {"VaDE": "vade", "WAMiC": "wamic", "WAMiCSelection": "wamic", "GANMM": "ganmm", "embedded_ganmm": "ganmm",
         "DeepKMeans": "deep_kmeans", "HRWAEGAN": "hrwae", "Autoencoder": "autoencoder", "autoencoder_gmm": "autoencoder",
         "DEC": "dec", "VAE": "vae", "vae_gmm": "vae", "n2d": "manifold", "UMAPEmbedding": "manifold", "ConditionalGAN": "cgan",
         "TrainableMixture": "mixture", "FullMixture": "mixture", "transport": "ot"}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'genclust' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
