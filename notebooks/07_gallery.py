# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Gallery: every method in a line
#
# Your data, an array or a folder of images, and each method of the library in one line. The two examples are sets that no
# chapter has seen: a table of wines, and crops of two photographs, both from scikit-learn {cite}`pedregosa2011`. To see this
# page with data of your own:
#
# ```bash
# genclust data add mine data.npz         # X, and y if there are labels; or a folder of images
# genclust chapter gallery -p dataset=mine
# ```

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper: how long the methods train
dataset = None  # a set, or the name under which you added data of your own; None: wines
n_clusters = None  # None: the number of classes, or 3
n_samples = 2000  # rows at most
seed = 0

# %% [markdown]
# The next cell refuses a parameter that does not exist, or a value that it can't take, before any work is done.

# %%
from genclust.lab.chapters import notebook_parameters

params = notebook_parameters("gallery", globals())
params.model_dump()

# %% tags=["remove-cell"]
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from IPython.display import Markdown, display
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_images, load_wine
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from genclust.lab import plots
from genclust.metrics import correct_rows, scores

plots.style()
warnings.filterwarnings("ignore", message=".*(n_jobs value|did not converge).*")
folder = Path(tempfile.mkdtemp())
SHOWN = 10  # clusters at most, in a figure

# %% [markdown]
# ## A table goes in
#
# Columns of all sizes are brought to one scale first; no method here does that for you. `add` is what `genclust data add`
# calls. It checks the file, keeps a copy under the name with a digest, and never unpickles anything. Here it has a
# cache of its own, which is thrown away; leave `cache` out and it is yours.

# %%
from genclust.datasets import add, load

wine = load_wine()
np.savez(folder / "wine.npz", X=StandardScaler().fit_transform(wine.data), y=wine.target_names[wine.target])
add("wine", folder / "wine.npz", cache=folder / "cache")
data = load("wine", cache=folder / "cache")
data

# %% tags=["remove-cell"]
if params.dataset is not None:
    data = load(params.dataset)
    if len(data.X) > params.n_samples:
        data = load(params.dataset, n_samples=params.n_samples)

# %% [markdown]
# Every fifth row is put aside, to be seen by no method before it is asked for a prediction.

# %%
held = np.arange(len(data.X)) % 5 == 4
X, new = data.X[~held], data.X[held]
K = params.n_clusters or max(len(data.class_names), 2 if data.y is not None else 3)
X.shape, new.shape, K

# %% [markdown]
# ## One line a method
#
# Small networks for a small table; leave `small` out for those of the papers. Where a number of epochs or iterations
# stands, it is for this page's sake: the defaults are longer.

# %%
from genclust import DEC, GANMM, VaDE, WAMiC, DeepKMeans, autoencoder_gmm, embedded_ganmm, n2d, vae_gmm

E = {"smoke": 2, "quick": 60, "paper": 600}[params.profile]  # epochs
seed_of = dict(random_state=params.seed)
small = dict(hidden=(64, 64), latent_dim=min(5, X.shape[1]))
stacked = small | dict(layer_epochs=E // 2, pretrain_epochs=E)
game = dict(iterations=2 * E, pretrain_iterations=E // 2, learning_rate=2e-4)

gallery = {
    "k-means": KMeans(K, n_init=10, **seed_of),
    "GMM": GaussianMixture(K, covariance_type="diag", n_init=10, **seed_of),
    "AE+GMM": autoencoder_gmm(K, **stacked, **seed_of),
    "VAE+GMM": vae_gmm(K, epochs=2 * E, **small, **seed_of),
    "N2D": n2d(K, **stacked, **seed_of),
    "DEC": DEC(K, iterations=E, **stacked, **seed_of),
    "soft k-means": DeepKMeans(K, size_penalty=0, pretrain_epochs=E, epochs=E, **small, **seed_of),
    "OT": DeepKMeans(K, epochs=E, **small, **seed_of),
    "VaDE": VaDE(K, epochs=E, **stacked, **seed_of),
    "VaDE, UMAP start held": VaDE(K, init="umap", held_epochs=E // 2, epochs=E, **stacked, **seed_of),
    "WAMiC": WAMiC(K, iterations=E // 3, critic_hidden=(64, 64), encoder_epochs=E, **stacked, **seed_of),
    "GANMM": GANMM(K, **game, **seed_of),
    "SAE+GANMM": embedded_ganmm(K, autoencoder=stacked, **game, **seed_of),
}

# %% [markdown]
# All are fitted in the same way, and what they give has the same names everywhere:

# %%
labels, seconds = {}, {}
for name, model in gallery.items():
    began = time.perf_counter()
    labels[name] = model.fit(X).predict(X)
    seconds[name] = time.perf_counter() - began

# %% tags=["hide-input"]
CAN = ("predict", "predict_proba", "transform", "sample")
rows = []
for name, model in gallery.items():
    row = {"method": name, "clusters": len(np.unique(labels[name])), "seconds": f"{seconds[name]:.1f}"}
    if data.y is not None:
        found = scores(data.y[~held], labels[name])
        row |= {"accuracy (%)": f"{100 * found['accuracy']:.1f}", "NMI": found["nmi"],
                "accuracy, rows put aside (%)": f"{100 * scores(data.y[held], model.predict(new))['accuracy']:.1f}"}
    rows.append(row | {what: "yes" if hasattr(model, what) else "" for what in CAN})
plots.table(rows)

# %% [markdown]
# Seconds are of this page's machine. Where UMAP has not run on a machine before, the first method with it waits for its compiler;
# from 4096 rows on it does so in every process for a part, the search for neighbours. One run of each on so few rows says nothing
# about which method is better: [](06_all_methods.ipynb) is about that.
#
# ## What one gets
#
# Labels and probabilities, for the rows of the fit and for others:

# %%
model = gallery["VaDE"]
model.labels_[:10], model.predict(new[:5]), model.predict_proba(new[:5]).round(3)

# %% [markdown]
# New rows, drawn from a cluster, and the code of every row, drawn here in the plane of its two main directions:

# %%
rows, clusters = model.sample(3, cluster=0, random_state=1)
rows.round(2), clusters

# %% tags=["hide-input"] mystnb={"image": {"alt": "Codes of the rows in the plane of their two main directions, coloured by class or by cluster"}}
flat = PCA(2).fit_transform(model.transform(X))
if data.y is not None:
    plots.embedding(flat, data.y[~held], correct_rows(data.y[~held], model.labels_), data.class_names, "VaDE's codes")
else:
    plots.classes({"coloured by cluster": flat}, model.labels_, [f"cluster {k}" for k in range(K)], "VaDE's codes")
plots.plt.show()

# %% [markdown]
# The course of training, and the objective by which runs are compared where there are no labels:

# %%
model.history_[-1], model.objective_

# %% [markdown]
# ## How many clusters?
#
# All methods so far are given K. `WAMiCSelection` chooses it: for each candidate it trains a few models side by side, and takes the
# number whose draws are the nearest to rows that no model saw, by the median Wasserstein distance.

# %%
from genclust import WAMiCSelection

course = dict(pretrain_epochs=E, warmup=E // 3, iterations=E // 3, encoder_epochs=E // 2, estimate_iterations=E)
counted = WAMiCSelection(range(max(2, K - 1), K + 2), n_replicas=3, **course, **small, **seed_of).fit(X)
counted.n_clusters_, dict(zip(counted.candidates, np.median(counted.wasserstein_, axis=1).round(3).tolist()))

# %% [markdown]
# ## One that is told the labels
#
# `ConditionalGAN` clusters nothing. It is **supervised**: `fit(X, y)` needs the class of every row, and what it learns is to draw
# rows of a class, with columns between 0 and 1. It is here since VaDE's paper compares its own draws with such ones.

# %%
from genclust import ConditionalGAN
from sklearn.preprocessing import MinMaxScaler

if data.y is not None:
    told = ConditionalGAN(hidden=(64, 64), iterations=5 * E, **seed_of).fit(MinMaxScaler(clip=True).fit_transform(X), data.y[~held])
    rows, classes = told.sample(3, label=told.classes_[0], random_state=1)
    display(rows.round(2), classes)
else:
    display(Markdown(f"{data.name} has no labels, so there is nothing that it could be told."))

# %% [markdown]
# ## A folder of images goes in
#
# One subfolder a class, or none if there are no classes. Here: pieces of 16 by 16 pixels of the two photographs.

# %%
rng = np.random.default_rng(params.seed)
n_crops = {"smoke": 40, "quick": 150, "paper": 1000}[params.profile]
whole = load_sample_images()
for name, photograph in zip(whole.filenames, whole.images):
    (folder / "photographs" / Path(name).stem).mkdir(parents=True)
    for i in range(n_crops):
        top, left = (rng.integers(size - 16) for size in photograph.shape[:2])
        Image.fromarray(photograph[top:top + 16, left:left + 16]).save(folder / "photographs" / Path(name).stem / f"{i:04}.png")

# %%
add("photographs", folder / "photographs", cache=folder / "cache")
images = load("photographs", cache=folder / "cache")
images, images.X.shape

# %% tags=["remove-input"]
photographs, n_groups = images, 2
if params.dataset is not None and data.image_shape is not None:
    images, n_groups = data, K
    display(Markdown(f"From here on the images are those of **{data.name}**."))
elif params.dataset is not None:
    display(Markdown(f"**{data.name}** is a table, whose rows have no height and width: what follows is of the photographs."))

# %% [markdown]
# Each method above takes images too, as rows of pixels. Two are made for them: `HRWAEGAN`, and `DeepKMeans` with convolutions.

# %%
from genclust import HRWAEGAN

shape = (*images.image_shape, 1)[:3]  # height, width, channels
pictures = {
    "HRWAE-GAN": HRWAEGAN(n_groups=1, image_shape=shape, epochs=max(1, E // 4), attention_epochs=1, batch_size=32, clustering="gmm",
                          n_clusters=n_groups, **seed_of),
    "OT, convolutions": DeepKMeans(n_groups, hidden=(8, 16), image_shape=shape, epochs=max(1, E // 5), batch_size=50, **seed_of),
    "VaDE": VaDE(n_groups, epochs=max(1, E // 3), layer_epochs=max(1, E // 15), pretrain_epochs=max(1, E // 5), **small, **seed_of),
}

# %% tags=["hide-input"]
fitted_to = dict.fromkeys(pictures, images)
for name, model in pictures.items():
    try:
        model.fit(images.X)
    except ValueError as error:  # before any work: these images are not for this method
        if images is photographs:
            raise
        display(Markdown(f"{name} is fitted to the photographs: {error}."))
        fitted_to[name] = photographs
        model.set_params(image_shape=photographs.image_shape, n_clusters=2).fit(photographs.X)

# %% [markdown]
# Some members of every cluster:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Members of each cluster, a row of images each"}}
def spread(rows, n=16):
    """As many rows as are shown, from the first to the last: those of a folder stand class by class."""
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]


def show_images(rows, of, title=""):
    """A row of images for each name, from the darkest to the brightest pixel of the set that they are of."""
    low, high = of.X.min(), of.X.max()
    plots.image_rows({name: ((X - low) / (high - low)).clip(0, 1) for name, X in rows.items()}, of.image_shape, title)
    plots.plt.show()


for name, model in pictures.items():
    of = fitted_to[name]
    members = {f"cluster {k}": spread(of.X[model.labels_ == k]) for k in np.unique(model.labels_)[:SHOWN]}
    right = "" if of.y is None else f": {100 * scores(of.y, model.labels_)['accuracy']:.0f} % in the cluster of their class"
    show_images(members, of, name + right)

# %% [markdown]
# Images as HRWAE-GAN builds them again from its codes, and images that never were, drawn from VaDE's clusters. After so few epochs on so
# few images neither can be good: the pictures show what the calls return, and not what the methods can do.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Rows of images: the originals above those that HRWAE-GAN rebuilt, or draws from each of VaDE's clusters"}}
of, vade = fitted_to["HRWAE-GAN"], pictures["VaDE"]
some = spread(of.X)
show_images({"images": some, "rebuilt": pictures["HRWAE-GAN"].reconstruct(some)}, of, "HRWAE-GAN")
show_images({f"cluster {k}": vade.sample(16, cluster=k, random_state=1)[0] for k in range(min(n_groups, SHOWN))}, images, "VaDE's draws")

# %% [markdown]
# A photograph is no class: pixels may tell bright from dark long before they tell China from a flower, and without labels
# nobody has told them what is asked. More on every estimator is in [](../book/library.md).

# %% tags=["remove-cell"]
import shutil

shutil.rmtree(folder)
