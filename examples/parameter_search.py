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

try:
    import seedmesh
except ImportError:
    print("parameter_search.py: the client is not found: put PYTHONPATH=clients/python before the command", file=sys.stderr)
    sys.exit(2)

WINDOWS = (2, 4, 6, 10)
SKIPS = (0, 3, 7, 11, 15)


def draws_of(name):
    """The draws of a file, for argparse: what is wrong with them is said in one line."""
    try:
        with open(name) as f:
            lines = f.read().splitlines()
    except (OSError, UnicodeError) as e:
        raise argparse.ArgumentTypeError("%s cannot be read: %s" % (name, getattr(e, "strerror", None) or "it is no text"))
    draws = []
    for number, line in enumerate(lines, 1):
        word = line.split("#")[0].strip()
        if word != "*" and not word.isdecimal() and word:
            raise argparse.ArgumentTypeError("%s, line %d: %r is not a whole number" % (name, number, word))
        if word:
            draws.append(None if word == "*" else int(word))
    return draws


def seeds_of(text):
    try:
        first, end = (int(s) for s in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError("%r is not FIRST:END, two numbers such as 0:16777216" % text)
    return first, end


def main():
    parser = argparse.ArgumentParser(description="Search for the window and the skip that tell a seed apart from chance.")
    parser.add_argument("draws", type=draws_of, metavar="DRAWS", help="file with one draw a line; * is one that nobody saw")
    parser.add_argument("--generator", required=True)
    parser.add_argument("--seeds", type=seeds_of, required=True, metavar="FIRST:END", help="the seeds from FIRST on and before END")
    parser.add_argument("--offset", type=int, default=7, help="most outputs before the first draw")
    parser.add_argument("--data", help="data directory of this machine's node")
    parser.add_argument("--patience", type=float, default=15, help="seconds to wait for a node or a leader")
    args = parser.parse_args()
    mesh = seedmesh.Mesh(args.data, args.patience)

    def submit(window, skip):
        question = "%s %d:%d %s %d %d %d" % (args.generator, *args.seeds, args.draws, args.offset, window, skip)
        return mesh.sieve(
            args.generator, args.draws[:window], seeds=args.seeds, skip=(0, skip), offset=(0, args.offset),
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
    try:
        sys.exit(main())
    except seedmesh.Error as e:
        print("parameter_search.py: %s" % str(e).replace("\n", "\n  "), file=sys.stderr)
        sys.exit(e.status)
    except KeyboardInterrupt:
        print("parameter_search.py: interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
