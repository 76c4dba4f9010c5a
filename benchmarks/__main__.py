"""``python -m benchmarks``: prints every measurement as a table of ratios."""

from __future__ import annotations

import argparse

import torch

from benchmarks import vae_step


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Step times as ratios to torch written by hand, in one run.")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each way")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for size, found in vae_step.measure(options.rounds).items():
        print(f"\nVAE {size}: time of a step as a ratio to {vae_step.REFERENCE}")
        for name, ratio in found.items():
            print(f"  {name:28s} {ratio:5.2f}")


if __name__ == "__main__":
    main()
