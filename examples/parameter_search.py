#!/usr/bin/env python3
"""Which window and which skip tell a generator's seed apart from chance?

A search over 20 pairs of window (how many draws are compared) and skip (how many outputs may be lost between two
draws), all of them at once on the mesh, as an optimiser would ask for them. A trial is good when it finds a seed,
chance alone would have let almost none through, and it looked at few draws and few skips.

    PYTHONPATH=clients/python examples/parameter_search.py examples/java-nextint.txt --generator java_random_nextint1000 --seeds 0:16777216

It prints one line a trial, and the best one in the end. A run that is interrupted is taken up again by the same
command line: each trial has a key of its own, and a job that is there is not done twice.
"""

import argparse
import hashlib
import sys

import seedmesh

WINDOWS = (2, 4, 6, 10)
SKIPS = (0, 3, 7, 11, 15)


def main():
    parser = argparse.ArgumentParser(description="Search for the window and the skip that tell a seed apart from chance.")
    parser.add_argument("draws", help="file with one draw a line; * is one that nobody saw")
    parser.add_argument("--generator", required=True)
    parser.add_argument("--seeds", required=True, help="FIRST:END")
    parser.add_argument("--offset", type=int, default=7, help="most outputs before the first draw")
    parser.add_argument("--data", help="data directory of this machine's node")
    args = parser.parse_args()

    with open(args.draws) as f:
        words = (line.split("#")[0].strip() for line in f)
        draws = [None if word == "*" else int(word) for word in words if word]
    first, end = (int(s) for s in args.seeds.split(":"))
    mesh = seedmesh.Mesh(args.data)

    def submit(window, skip):
        question = "%s %s %s %d %d %d" % (args.generator, args.seeds, draws, args.offset, window, skip)
        return mesh.sieve(
            args.generator, draws[:window], seeds=(first, end), skip=(0, skip), offset=(0, args.offset),
            name="window %d skip %d" % (window, skip), key="parameter-search-" + hashlib.sha256(question.encode()).hexdigest()[:32],
        )

    trials = [(window, skip, submit(window, skip)) for window in WINDOWS for skip in SKIPS]
    best = None
    for window, skip, job in trials:
        info = job.wait()
        found, chance = int(info.get("survivors", 0)), info.get("expectedByChance", 0.0)
        seed = next((s["seed"] for s in job.results()), None)
        print("window %2d  skip 0:%-2d  %6d found  %10.3g by chance  %s" % (window, skip, found, chance, "" if seed is None else "first seed %d" % seed))
        if found and chance < 0.01 and (best is None or (skip, window) < best[:2]):
            best = (skip, window, seed)
    if best is None:
        print("no trial tells a seed apart from chance", file=sys.stderr)
        return 1
    print("best: window %d, skip 0:%d, seed %d" % (best[1], best[0], best[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
