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
# # All methods, all data
#
# **The question.** Every paper compares its method with a few others, on the sets that suit it, by a recipe of its own.
# Here every clustering method of the library meets every data set, by one protocol: what would you pick for data of your
# own, without a label?
#
# **What this page establishes.** How the methods order when rows, networks and steps of training are the same for all;
# how sure that order is; what each costs; and what is lost when runs are chosen by their objective, as they have to be.
# **What it does not.** The protocol is far below the papers' scale. It is no verdict on any paper, and the ledger does not
# look at it: a method that needs long training is at a disadvantage here, and its own chapter is the place to judge it.

# %% tags=["parameters"]
profile = "quick"  # smoke, quick or paper: the scale of the live runs
dataset = "digits"  # the data set of the live runs; any set of the tables below
n_clusters = None  # K of the live runs; None: the number of classes
seed = 0
epochs = None  # epochs of what comes after pretraining in the live runs; None: as the profile has it
n_samples = None  # rows of the live runs; None: as the profile has it

# %% [markdown]
# The next cell refuses a parameter that does not exist, or a value that it can't take, before any work is done.

# %%
from genclust.lab.chapters import notebook_parameters

params = notebook_parameters("all", globals())
params.model_dump()

# %% tags=["remove-cell"]
import json
from dataclasses import asdict

import numpy as np
from IPython.display import HTML, Markdown, display

from genclust.datasets import DATASETS, load
from genclust.lab import grid, plots
from genclust.lab.chapters import live
from genclust.lab.files import project_root
from genclust.lab.papers import EXPERIMENTS, METHODS, all_methods
from genclust.lab.records import RecordStore
from genclust.lab.selection import selections, told_apart
from genclust.lab.sortable import sortable

plots.style()
book = RecordStore(project_root() / "book" / "records")

# %% [markdown]
# ## What to pick
#
# These sentences are put together from the records, and change with them. What they rest on follows: the protocol, the table, and how
# sure the order is.

# %% tags=["remove-input"]
found, ranked, lacking = grid.cells(book), None, ""
try:
    ranked = grid.ranked(found)
except LookupError as error:
    lacking = f"Not computed yet: {error}."
display(Markdown("\n".join(f"- {line}" for line in grid.advice(found)) if ranked else lacking))

# %% [markdown]
# ## The protocol
#
# One for all, and all of it decided without a label:
#
# - **Rows.** At most as many as the table says, a seeded subset of the set as `load` gives it, with the scaling that the set
#   comes with. Every method gets the number of classes as K.
# - **Networks.** Two hidden layers before the code, of 64 units for up to 64 features and of 256 for more; codes
#   of 10 dimensions, or as many as there are features. GANMM's generators and HRWAE-GAN's convolutions are not such
#   networks: they are as in their chapters.
# - **Steps.** Not epochs: every method takes as many steps of its optimizer on a small set as on a large one. Those that
#   pretrain take some for each layer and some for all layers together; those that don't have the sum. The adversarial
#   ones, whose steps cost a multiple, have fewer, and so have WAMiC and GANMM by far fewer than their chapters give them.
# - **All else** is as in the method's own chapter: losses, optimizers and learning rates, the start of a mixture; but that images in
#   [0, 1] have cross-entropy for DEC and for SAE+GANMM too, that both GANMM learn at four times the rate, for their few steps, and
#   that WAMiC has the settings of its images on the moons as well. Of the chapters'
#   variants one stands for all: VaDE from the start of its chapter, from the UMAP partition held, with narrow codes, and on text with
#   variances held at 1 (see below the table); soft k-means with
#   pretraining, as in the paper's table, and OT without, since it is said to need none; of HRWAE-GAN one group, UMAP and a
#   mixture, so that K is given to it too and no row is left out.
# - **Nothing is shared.** Elsewhere methods share pretrained layers; here each run trains its own, and keeps nothing but
#   scores and labels, so that its seconds are the method's. They are of a machine that others used as well. UMAP's compiled
#   code is kept on disk, so that only the first process on a machine waits for most of it; from 4096 rows on a part, the search
#   for neighbours, is compiled in every process, in the first run that needs it. The oldest records are from before that: there
#   all of it was compiled in every process. Memory is that of the process, in which other runs may have come before: a bound
#   from above, and the table has the highest.

# %% tags=["hide-input"]
HEADINGS = {"rows": "rows at most", "layer": "each layer", "joint": "all layers", "steps": "after that", "wamic": "WAMiC", "ganmm": "GANMM",
            "hrwae": "HRWAE-GAN", "starts": "starts"}
plots.table([{"profile": name, **{HEADINGS[key]: value for key, value in asdict(scale).items()}}
             for name, scale in all_methods.SCALES.items()])

# %% [markdown]
# Steps for each layer, for all layers together and of what comes after; steps of the generator or autoencoder in the three
# adversarial methods; starts of every k-means and EM. What this comes to on the live set, in the profile that is recorded:

# %% tags=["hide-input"]
own = EXPERIMENTS[f"all/{params.dataset}"].profiles["paper"]
plots.table([{"method": METHODS[m].title, "parameters": json.dumps(own[m]).strip("{}").replace('"', "")}
             for m in EXPERIMENTS[f"all/{params.dataset}"].methods])

# %% [markdown]
# What the library can run and this page leaves out, with the reason:

# %% tags=["hide-input"]
reasons: dict[str, list[str]] = {}
for m, why in all_methods.EXCLUDED.items():
    reasons.setdefault(why, []).append(METHODS[m].title)
plots.table([{"left out": "; ".join(dict.fromkeys(titles)), "because it": why} for why, titles in reasons.items()])

# %% [markdown]
# ## Live
#
# Four methods on one set, at the scale of the profile, trained now on this machine.

# %% tags=["remove-stderr"]
data = load(params.dataset, n_samples=params.n_samples)
runs = live(params, ["kmeans", "ae+gmm", "soft-kmeans-p", "vade"])

# %% tags=["hide-input"]
plots.table([{
    "method": METHODS[m].title, "accuracy (%)": f"{100 * r.metrics['accuracy']:.2f}", "NMI": r.metrics["nmi"], "ARI": r.metrics["ari"],
    "rows": r.spec.n_samples or len(data.y), "seconds": f"{r.provenance.wall_seconds:.1f}",
} for m, r in runs.items()])

# %% [markdown]
# ## The table
#
# Recorded runs only: mean and standard deviation over seeds. Click on a heading to sort by it, twice for the other way
# round. A cell without a run says why.

# %% tags=["hide-input"]
rows = grid.table_rows(found)
HTML(sortable(rows, rows[0]))

# %% [markdown]
# *Clusters* are those that have rows. Where VaDE has fewer than it was asked for, it has lost the mixture that it started from:
# its paper leaves open how the head that gives $\log \sigma^2$ of a code starts, and untrained it puts a variance of about 1 on every
# code. On images the clusters of the codes are wider than that; on small tables they are far narrower, and the noise carries
# codes from one to another before the networks can follow. "VaDE, narrow codes" is the same but for that start, a tenth of the
# variance inside a cluster (`code_noise=0.1`); as no paper's, it is no part of any verdict. On text it is the decoder that does it: the
# variances that it learns fall without end in columns that are nearly always zero, and what the code can say of the others counts
# next to nothing. "VaDE, variances held at 1" has the squared error there (`likelihood="unit-gaussian"`). WAMiC too may end with few
# clusters, or below its own start: so few iterations of its game, and so few epochs of its new encoder, can leave codes far from
# the mixture that labels them.
#
# What makes these runs, one command a set; what has a record is not run again, and `--method` picks one. The page on
# [what has been run](../book/status.md) has every record, its cost, and whether it still replays; `genclust show ID` prints
# the command that makes just that one.

# %% tags=["hide-input"]
cost = {d: [sum(c.values.get("wall_seconds", [])) for c in found if c.dataset == d] for d in all_methods.SETS}
plots.table([{"set": DATASETS[d].title, "command": f"genclust run all/{d} --profile paper --seeds 0:{grid.SEEDS}",
              "cells with runs": f"{sum(not c.missing for c in found if c.dataset == d)} of {sum(not all_methods.unfit(c.method, d) for c in found if c.dataset == d)}",
              "minutes, all recorded runs": f"{sum(cost[d]) / 60:.1f}" if sum(cost[d]) else ""} for d in all_methods.SETS])

# %% [markdown]
# ## The map
#
# Mean accuracy in per cent. Colours run from the worst to the best method of each set, since sets differ by far more than
# methods do.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean accuracy of every method, a row each, on every data set, a column each; where there is no run, the reason"}}
def note(cell):
    """Why there is no run, in a word or two."""
    if all_methods.unfit(cell.method, cell.dataset):
        if (kind := cell.missing.partition(":")[0]).endswith(" only"):
            return kind.replace(" ", "\n")
        return "takes\nhours" if DATASETS[cell.dataset].image_shape else "too\nwide"
    return "not run\nyet" if cell.missing == "not run yet" else "no data\nhere"


notes = [[note(c) for c in found if c.method == m] for m in grid.methods()]
titles = [METHODS[m].title for m in grid.methods()]
names = [d.removesuffix("_instances").replace("_", " ") for d in all_methods.SETS]
plots.heat_map(100 * grid.matrix(found), titles, names, "worst to best on the set", notes);

# %% [markdown]
# ## The order, and how sure it is
#
# On every set where each method that can run anywhere has runs from three seeds or more, these methods are ranked by their mean
# accuracy; the table has the mean of the ranks {cite}`demsar2006`. Its interval, and how often a method comes first, are from resampling the sets: sets are
# what we want to speak beyond. Friedman's test asks whether the methods differ at all, and Nemenyi's, by its critical
# difference, which of them do: what lies in the grey band is not told apart from the best. It knows nothing of seeds, and with
# so few sets it tells little apart.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean rank of each method over the data sets with its interval, best first; a grey band holds what is not told apart from the best"}}
if ranked:
    o, ordered = ranked.order, [METHODS[m].title for m in ranked.methods]
    display(plots.table([{"method": ordered[i], "mean rank": f"{o.mean[i]:.2f}", "95 % interval": f"{o.low[i]:.1f} to {o.high[i]:.1f}",
                          "first in (%)": f"{100 * o.first[i]:.0f}", "mean accuracy (%)": f"{100 * ranked.scores[:, i].mean():.1f}",
                          "told apart from the best": "" if o.tied_with_best()[i] else "yes"} for i in np.argsort(o.mean)]))
    display(Markdown(f"Friedman: p = {o.p:.2g}; critical difference {o.critical:.2f}; sets: {grid.set_names(ranked.sets)}."))
    plots.mean_ranks(ordered, o.mean, o.low, o.high, o.critical)
    plots.plt.show()
else:
    display(Markdown(lacking))

# %% [markdown]
# ## Choosing without labels
#
# A deep method is run from several seeds, and in practice one run is kept. VaDE's paper keeps the one with the best objective;
# HRWAE-GAN's prints means and, as "best", the run of the highest accuracy, which takes labels to find; the others give means, or do not
# say. For every setting with two or more recorded runs: the score of the run that the objective takes; the median over the runs
# and their spread, from lowest to highest; the best run, which only labels can find (an **oracle**: nobody has it in
# practice); and the **selection gap** between the two. None of the five papers reports it. The score is the accuracy over all rows; where
# HDBSCAN leaves some out as noise, these count as wrong (`accuracy_total`), while [HRWAE-GAN's chapter](05_hrwae_gan.ipynb) takes them for one
# more cluster, as that paper seems to. *Tau* is Kendall's: whether runs with the better objective are the better ones, from -1 to 1. It
# counts every pair of runs alike, the gap only the run taken: they can differ.

# %% tags=["hide-input"]
def gap_rows(choices):
    return [{"setting": f"{spec.experiment}", "method": METHODS[spec.method].title, "with": apart, "runs": (str(c.n), c.n),
             "by objective (%)": (f"{100 * c.chosen:.2f}", c.chosen), "median (%)": (f"{100 * c.median:.2f}", c.median),
             "spread (points)": (f"{100 * c.spread:.2f}", c.spread), "oracle (%)": (f"{100 * c.oracle:.2f}", c.oracle),
             "gap (points)": (f"{100 * c.gap:.2f}", c.gap), "tau": ("", np.nan) if c.agreement is None else (f"{c.agreement:.2f}", c.agreement)}
            for (spec, c), apart in zip(choices, told_apart([spec for spec, _ in choices]))]


def show_gaps(choices):
    """The table of these choices, and what they come to."""
    if not choices:
        display(Markdown("No setting has two recorded runs yet."))
        return
    rows = gap_rows(choices)
    display(HTML(sortable(rows, rows[0])), Markdown("\n".join(f"- {line}" for line in grid.selection_advice([c for _, c in choices]))))


heads = list(book.heads(profile="paper"))
papers = selections(head for head in heads if head["spec"]["paper"] != "all")
everywhere = selections(head for head in heads if head["spec"]["paper"] == "all")

# %% [markdown]
# **The papers' own experiments**, at the scale of their chapters. Where a grid is varied, every point of it is a setting.

# %% tags=["hide-input"]
show_gaps(papers)

# %% [markdown]
# **The grid of this page.**

# %% tags=["hide-input"]
show_gaps(everywhere)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Selection gap of each method: a dot for each setting, a line at their mean"}}
by_method: dict[str, list[float]] = {}
for spec, c in everywhere or papers:
    by_method.setdefault(METHODS[spec.method].title, []).append(100 * c.gap)
if by_method:
    plots.gaps(by_method, "selection gap (points of accuracy): a dot a setting, the line their mean")
    plots.plt.show()

# %% [markdown]
# What the objective is differs. k-means's inertia and a mixture's likelihood in the features are of the same data in every
# run, so that runs can be compared by them. The likelihood of a mixture on *codes* (AE+GMM, VAE+GMM, N2D) is not: each run has
# codes of its own, and shrinking them raises it. The bound of VaDE, the transport loss of OT and the distance of WAMiC are
# between the two: networks can trade what the clusters are worth for what the reconstruction is worth. DEC's, minus KL(P || Q),
# looks at the assignments alone; it is at its best, 0, where every row belongs to one cluster for certain, but also where Q is
# uniform and tells no row from another, so that a small divergence need not mean a good partition. GANMM's, the mutual
# information of row and cluster, looks at them alone too: 0 for a uniform Q, but highest for any certain partition into clusters of
# equal sizes. HRWAE-GAN's is the reconstruction alone, and knows nothing of clusters.
