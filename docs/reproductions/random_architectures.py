"""How many of 200 random architectures learn to draw digits: by the game of GAN, and by that of WGAN-GP.

Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville (2017), Improved Training of Wasserstein GANs, section 5.1, here with
perceptrons and MNIST at 14x14 pixels, and an inception score by a classifier of digits.

    make reproduce NAME=random-architectures DATA_DIR=folder-that-holds-mnist ARGS='--results folder'

Several of these commands with one folder of results share the work: whichever ends writes the section of what has been
played. With --seeds 0 nothing is played. Games are always traced.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from _architecture_games import WAYS, Classifier, Digits, Played, play
from _architectures_page import draw, section
from _page import arguments, cost, picture_path, write_section
from torch import Tensor
from torch.nn.functional import avg_pool2d

import ppl_genmodels as ppl
from ppl_genmodels import data
from ppl_genmodels import objectives as obj

NAME = "random-architectures"
COUNT, EPOCHS = 200, 2


def main() -> None:
    """Plays both games with every architecture that no one else has, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=EPOCHS, seeds=COUNT, results=True)
    with TemporaryDirectory() as passing:
        folder = (options.results or Path(passing)) / f"random_architectures_{options.epochs}"
        folder.mkdir(parents=True, exist_ok=True)
        digits = read(options.data_dir / "mnist", folder)
        play_all(range(options.seeds), digits, options.epochs, folder)
        found = {number: games for number in range(COUNT) if len(games := kept(folder, number)) == len(WAYS)}
    if not found:
        print("No architecture has played both games yet.")
        return
    draw(picture_path(options.page, "random_architectures"), found, digits.score)
    text = section(found, digits, options.epochs, COUNT, NAME, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def read(source: Path, folder: Path) -> Digits:
    """MNIST with the mean of every four pixels, between -1 and 1, and its classifier."""
    splits = [data.load(source, split, images=True) for split in ("train", "test")]
    train, test = (2 * avg_pool2d(torch.as_tensor(split.data), 2) - 1 for split in splits)
    labels, expected = (torch.as_tensor(split.labels) for split in splits)
    with locked(folder / "classifier.lock"):
        classifier = classifier_of(train, labels, folder / "classifier.pt")
    right = classifier.probabilities(test).argmax(-1) == expected
    return Digits(train, test, classifier, right.double().mean().item())


def classifier_of(x: Tensor, y: Tensor, path: Path) -> Classifier:
    """The classifier from a file, or else fitted and put there."""
    torch.manual_seed(0)
    program = Classifier()
    if path.exists():
        program.load_state_dict(torch.load(path, weights_only=True))
        return program
    adam = partial(torch.optim.Adam, lr=2e-3, fused=True)
    ppl.fit(program, {"x": x, "y": y}, objective=obj.log_lik(), epochs=6, optimizer=adam, progress=False)
    torch.save(program.state_dict(), path)
    return program


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Holds a lock that ends with this process: whether it was had, as it always is after a wait."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def play_all(numbers: range, digits: Digits, epochs: int, folder: Path) -> None:
    """Every game that is neither kept nor being played by another process."""
    for number in numbers:
        with locked(folder / f"{number:03d}.lock", wait=False) as mine:
            for name in sorted(set(WAYS) - set(kept(folder, number))) if mine else ():
                played = play(number, WAYS[name], digits, epochs)
                part = folder / f"{number:03d}.part"
                part.write_text(json.dumps(vars(played)))
                part.replace(folder / f"{number:03d} {name}.json")
                print(f"{number} {name}: {played.score:.2f}, {played.seconds:.1f} s", flush=True)


def kept(folder: Path, number: int) -> dict[str, Played]:
    """The finished games of an architecture."""
    paths = {name: folder / f"{number:03d} {name}.json" for name in WAYS}
    return {name: Played(**json.loads(path.read_text())) for name, path in paths.items() if path.exists()}


if __name__ == "__main__":
    main()
