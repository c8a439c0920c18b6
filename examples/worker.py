#!/usr/bin/env python3
"""A persistent worker: the interpreter, the imports and the GPU are started once for many tasks.

Copy serve() into a script of your own, or send this file along with it:

    seedmesh exec --mode worker --array 1-1000 --input worker.py --output 'out-{}.json' -- python3 scorer.py :: --trial {} --out out-{}.json

with a scorer.py such as

    import json, torch, worker

    model = torch.load("model.pt").cuda()                      # once

    def score(args):                                           # for each task
        with open(args[3], "w") as f:
            json.dump({"trial": int(args[1]), "loss": model(int(args[1])).item()}, f)

    worker.serve(score, between=torch.cuda.empty_cache)

Each task has an empty working directory with the inputs, and its outputs, standard output and errors are kept, as
without a worker. An exception fails its task, and the worker goes on. A worker that dies fails the task that it had,
and is started again. Run as it is, this file adds up its arguments: --mode worker -- python3 worker.py :: 1 2 3
"""

import json
import os
import sys
import traceback


def serve(handle, between=None):
    """Do tasks until there are none.

    handle is called with the words of each task. What it returns, if that is a dictionary, is the task's result, which
    --output stdout:json keeps. between is called after each answer, before the next task: the place for what frees the
    memory of a GPU, such as torch.cuda.empty_cache.
    """
    names = ("SEEDMESH_TASKS_FD", "SEEDMESH_ANSWERS_FD")
    if not all(name in os.environ for name in names):
        print("worker: nothing gives it tasks; a node starts it: seedmesh exec --mode worker -- python3 worker.py :: 1 2 3", file=sys.stderr)
        sys.exit(2)
    descriptors = [int(os.environ[name]) for name in names]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # what a task starts has no part in it
    tasks, answers = os.fdopen(descriptors[0]), os.fdopen(descriptors[1], "w", buffering=1)
    answers.write('{"ready": true}\n')
    for line in tasks:
        task = json.loads(line)
        os.environ.update(SEEDMESH_TASK=str(task["task"]), SEEDMESH_TASK_ID=task["id"], SEEDMESH_ATTEMPT=str(task["attempt"]))
        try:
            answer = {"task": task["task"], "status": 0}
            result = handle(task["args"])
            if isinstance(result, dict):
                answer["result"] = result
            text = json.dumps(answer, allow_nan=False)
        except Exception as e:
            traceback.print_exc()
            text = json.dumps({"task": task["task"], "status": 1, "message": ("%s: %s" % (type(e).__name__, e))[:200]})
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(text + "\n")
        if between is not None:
            between()
        answers.write('{"ready": true}\n')


if __name__ == "__main__":
    serve(lambda args: {"sum": sum(float(a) for a in args)})
