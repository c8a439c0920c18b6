"""Tests of the client against the node of $SEEDMESH_DATA, which has two slots for scripts and blobs."""

import os
import tempfile
import unittest

import seedmesh

DRAWS = [int(d) for d in os.environ["DRAWS"].split()]  # of mt19937 with the seed 4242, skip 2


class Client(unittest.TestCase):
    def setUp(self):
        self.mesh = seedmesh.Mesh()

    def sieve(self, **more):
        return self.mesh.sieve("mt19937", DRAWS, seeds=(0, 2**16), skip=(0, 4), **more)

    def test_sieve(self):
        job = self.sieve(name="from python")
        info = job.wait(timeout=120)
        self.assertEqual((info["survivors"], info["name"], info["total"]), ("1", "from python", "65536"))
        self.assertEqual([(s["seed"], s["best_skip"], s["matches"]) for s in job.results()], [(4242, 2, len(DRAWS))])
        self.assertEqual(self.mesh.job("from python").id, job.id)
        self.assertIn(job.id, [j["id"] for j in self.mesh.jobs(all=True)])

    def test_unknown_draws_and_intervals(self):
        draws = [None, (DRAWS[1] - 1, DRAWS[1] + 1)] + DRAWS[2:]
        job = self.mesh.sieve(["mt19937"], draws, seeds=(4000, 5000), skip=2)
        job.wait(timeout=120)
        self.assertEqual([(s["seed"], s["total"]) for s in job.results()], [(4242, len(DRAWS) - 1)])

    def test_what_is_no_draw_and_no_range(self):
        for draws, more in ((["x"], {}), ([{}], {}), (DRAWS, {"seeds": 5}), (DRAWS, {"skip": "many"})):
            with self.assertRaises(seedmesh.BadRequest) as caught:
                self.mesh.sieve("mt19937", draws, **{"seeds": (0, 10), **more})
            self.assertIn("give", caught.exception.remedy)
            self.assertEqual(caught.exception.status, 2)

    def test_one_job_for_one_key(self):
        key = "a key of this test"
        self.assertEqual(self.sieve(key=key).id, self.sieve(key=key).id)
        with self.assertRaises(seedmesh.BadRequest) as caught:
            self.sieve(key=key, priority=7)
        self.assertIn("another", caught.exception.remedy)

    def test_array_with_files(self):
        with tempfile.TemporaryDirectory() as scratch:
            source = os.path.join(scratch, "in.bin")
            with open(source, "wb") as f:
                f.write(os.urandom(700_000))  # several messages
            job = self.mesh.exec(
                ["sh", "-c", "cat in.bin > out-{}; echo '{\"n\": {}}'"], array=(3, 5), inputs=[(source, "in.bin")], task_outputs=["out-{}"], capture=True,
            )
            job.wait(timeout=120)
            rows = list(job.results())
            self.assertEqual([(r["task"], r["stdout"]) for r in rows], [(str(n), {"n": n}) for n in (3, 4, 5)])
            saved = job.save(os.path.join(scratch, "saved"))
            self.assertEqual(saved, ["3/stdout.json", "out-3", "4/stdout.json", "out-4", "5/stdout.json", "out-5"])
            for name in saved[1::2]:
                with open(os.path.join(scratch, "saved", name), "rb") as got, open(source, "rb") as want:
                    self.assertEqual(got.read(), want.read())

    def test_worker(self):
        worker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "worker.py")
        job = self.mesh.exec(["python3", "worker.py", "::", "1", "{}"], array=(5, 7), worker=True, inputs=[(worker, "worker.py")], capture=True)
        job.wait(timeout=120)
        self.assertEqual([r["stdout"] for r in job.results()], [{"sum": 6.0}, {"sum": 7.0}, {"sum": 8.0}])

    def test_unknown_preload(self):
        with self.assertRaises(seedmesh.NotFound) as caught:
            self.mesh.exec(["true"], preloads=["nothing"])
        self.assertIn("preload ls", caught.exception.remedy)

    def test_list_with_failure(self):
        job = self.mesh.script([{"id": "good", "argv": ["true"]}, {"id": "bad", "argv": ["false"]}], attempts=1, env={"A": "b"})
        with self.assertRaises(seedmesh.JobFailed) as caught:
            job.wait(timeout=120)
        self.assertEqual((caught.exception.info["state"], caught.exception.info["failed"]), ("failed", "1"))
        self.assertIn("task ls", caught.exception.remedy)
        self.assertEqual([r["task"] for r in job.results()], ["good"])

    def test_cancel(self):
        job = self.mesh.exec(["sleep", "1000"], name="sleeper")
        with self.assertRaises(seedmesh.WaitTimeout):
            job.wait(timeout=0.2)
        self.assertEqual(job.cancel()["state"], "cancelled")
        job.cancel()
        with self.assertRaises(seedmesh.JobFailed):
            job.wait(timeout=60)

    def test_results_before_the_end(self):
        job = self.mesh.exec(["sleep", "1000"])
        with self.assertRaises(seedmesh.Error) as caught:
            list(job.results())
        self.assertEqual(caught.exception.code, "failed_precondition")
        self.assertTrue(caught.exception.remedy)
        self.assertEqual(list(job.results(partial=True)), [])
        job.cancel()

    def test_errors(self):
        with self.assertRaises(seedmesh.NotFound):
            self.mesh.job("no such job")
        with self.assertRaises(seedmesh.BadRequest) as caught:
            self.mesh.sieve("no_such_generator", DRAWS, seeds=(0, 10))
        self.assertTrue(caught.exception.remedy)
        with self.assertRaises(seedmesh.BadRequest):
            self.mesh.exec(["x"], outputs=["../escape"])
        with self.assertRaises(seedmesh.Unavailable):
            seedmesh.Mesh("/nonexistent/seedmesh").jobs()
        with tempfile.TemporaryDirectory() as empty:
            with self.assertRaises(seedmesh.Unavailable) as caught:
                seedmesh.Mesh(empty, patience=0.2).jobs()
            self.assertIn("seedmesh up", caught.exception.remedy)


if __name__ == "__main__":
    unittest.main()
