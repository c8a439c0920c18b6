"""Submit work to a seedmesh mesh from Python, and read what came of it.

It speaks with the node of this machine over the unix socket in its data
directory, and needs nothing but the standard library of Python 3.8 or newer:

    import seedmesh

    mesh = seedmesh.Mesh()
    job = mesh.sieve("java_random_nextint1000", draws, seeds=(0, 2**24), skip=(0, 15), threshold=1.0)
    job.wait()
    for survivor in job.results():
        print(survivor["seed"], survivor["best_skip"])

Every call is repeated while the node or a leader is away, for `patience`
seconds, and happens once: a submission carries an idempotency key. What cannot
be done raises an Error, whose `remedy` says what to do about it.
"""

import base64
import hashlib
import http.client
import json
import math
import os
import socket
import struct
import tempfile
import time
import uuid

__all__ = [
    "Mesh", "Job", "Error", "Unavailable", "NotFound", "NotAuthorised", "BadRequest", "LimitReached", "JobFailed", "WaitTimeout",
]

_PATIENCE = 15.0  # seconds for which calls are repeated while no node or leader answers
_ANSWER = 30.0  # seconds for one answer
_POLL = 1.0  # seconds that one call waits for the end of a job
_BLOB_PART = 256 << 10  # bytes of a file in one message
_MISSING_AT_ONCE = 1000  # digests in one question
_SOCKET_PATH = 100  # bytes; nodes use a hashed path beyond
_END_OF_STREAM = 2  # flag of the last message of a stream
_LIST_MAGIC = b"SMTL1\n\0\0"


class Error(Exception):
    """What could not be done. `remedy` says what to do about it, `code` is that of the protocol, and `status` the exit
    status that the command line has for it."""

    status = 1

    def __init__(self, what, remedy="", code="unknown"):
        super().__init__(what + ("\n" + remedy if remedy else ""))
        self.what, self.remedy, self.code = what, remedy, code


class Unavailable(Error):
    """No node, or no quorum, could be reached. Trying again is safe."""

    status = 6


class NotFound(Error):
    """There is no such job or task."""

    status = 5


class NotAuthorised(Error):
    """The caller may not do this."""

    status = 4


class BadRequest(Error):
    """What was asked for makes no sense."""

    status = 2


class LimitReached(Error):
    """A limit of the mesh forbids it."""

    status = 7


class WaitTimeout(Error):
    """The job has not ended in the given time. It goes on."""

    status = 124


class JobFailed(Error):
    """The job ended otherwise than done; `info` says how."""

    status = 3

    def __init__(self, info):
        remedy = "see the failed tasks with: seedmesh task ls --state failed " + info["id"] if info.get("kind") == "tasks" else ""
        super().__init__("job %s is %s: %s" % (info["id"], info["state"], info.get("lastError", "").split("\n")[0]), remedy, "job_failed")
        self.info = info


_KINDS = {
    "unavailable": Unavailable, "not_found": NotFound, "permission_denied": NotAuthorised, "unauthenticated": NotAuthorised,
    "invalid_argument": BadRequest, "already_exists": BadRequest, "resource_exhausted": LimitReached,
}


def _error(answer):
    what, _, remedy = (answer.get("message") or answer.get("code") or "the node gave no reason").partition("\n")
    code = answer.get("code", "unknown")
    return _KINDS.get(code, Error)(what, remedy, code)


class Mesh:
    """The mesh, through the node of a data directory.

    data is that directory: by default $SEEDMESH_DATA, else seedmesh in $XDG_STATE_HOME (~/.local/state).
    patience is for how many seconds a call is repeated while no node or leader answers.
    """

    def __init__(self, data=None, patience=_PATIENCE):
        state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        self.data = os.path.abspath(data or os.environ.get("SEEDMESH_DATA") or os.path.join(state, "seedmesh"))
        self.patience = patience

    def sieve(self, generators, draws, seeds, observe="mod:1000", skip=(0, 16), offset=(0, 0), threshold=1.0, min_matches=None,
              mode="fixed", direction="forward", strategies=(), confirm_matches=0, split=0, **job):
        """Submit a search for the seeds that explain draws, and give its Job.

        generators is a name or several. draws are numbers, in order; None is one that nobody saw, (A, B) an interval
        with both ends. seeds is (first, end), without the end, which may be 2**64. skip and offset are numbers, or
        (least, most) with both ends. min_matches is how many known draws must match, by default threshold times their
        number. Further arguments are those of every job: name, key, priority, chunk_time (seconds), attempts,
        timeout (seconds).
        """
        draws = [_draw(n, d) for n, d in enumerate(draws, 1)]
        if min_matches is None:
            min_matches = max(0, math.ceil(threshold * sum(d != "*" for d in draws) - 1e-6))
        first, end = _pair("seeds", seeds)
        spec = {
            "version": 2, "generators": [generators] if isinstance(generators, str) else list(generators), "draws": draws,
            "observe": observe, "skip": _bounds("skip", skip), "offset": _bounds("offset", offset), "min_matches": min_matches, "mode": mode,
            "direction": direction, "keep_all": False,
        }
        for field, value in (("strategies", list(strategies)), ("split", split), ("confirm_matches", confirm_matches)):
            if value:
                spec[field] = value
        request = _submission(spec, timeout=job.pop("timeout", 0), **job)
        request.update(first=str(first), last=str(end - 1))
        return Job(self, self.call("Submit", request)["job"])

    def exec(self, argv, array=None, matrix=None, worker=False, inputs=(), outputs=(), task_outputs=(), env=None, capture=False,
             valid="", memory=0, timeout=0, max_parallel=0, after=(), preloads=(), **job):
        """Run a command, once or for each value of an array or matrix, and give its Job.

        array is (first, last), both included, which {} in argv and task_outputs stands for; matrix maps names to lists
        of values, which {NAME} stands for. inputs are files, or pairs (local path, path in the working directory), that
        are sent along. outputs are files or globs that every task makes, task_outputs those whose paths differ from
        task to task. env maps names to values. capture takes the last JSON object of a task's standard output: it is
        the field stdout of the task's result. valid is what outputs must be: json, jsonl, npz or auto. memory is in
        bytes, timeout in seconds, after a list of jobs to wait for, preloads the names of those that a node must have. With worker the words of argv up to "::" start a
        process that stays up and is given the words behind, one task after the other (see examples/worker.py). Further
        arguments are those of every job: name, key, priority, chunk_time (seconds), attempts.
        """
        axes = []
        if array is not None:
            axes.append({"name": "", "from": array[0], "to": array[1]})
        for name, values in (matrix or {}).items():
            axes.append({"name": name, "values": [str(v) for v in values]})
        words, command = [str(a) for a in argv], 0
        if worker:
            command = words.index("::") if "::" in words else len(words)
            words = words[:command] + words[command + 1:]
        spec = {"version": 1, "template": {"argv": words, "outputs": list(task_outputs)}, "axes": axes}
        return self._scripts(spec, command, inputs, outputs, env, capture, valid, memory, timeout, max_parallel, after, preloads, job)

    def script(self, tasks, worker=0, inputs=(), outputs=(), env=None, capture=False, valid="", memory=0, timeout=0, max_parallel=0,
               after=(), preloads=(), **job):
        """Run a list of commands, and give their Job.

        Each task is a list of words, or a dictionary: argv, and optionally id, outputs (a list of paths) and timeout
        (seconds). With worker, so many words at the beginning of each command start a process that stays up. The other
        arguments are those of exec.
        """
        rows = [_task(t) for t in tasks]
        texts = [json.dumps(r).encode() for r in rows]
        at = len(_LIST_MAGIC) + 8 + 8 * (len(texts) + 1)
        index = _LIST_MAGIC + struct.pack("<QQ", len(texts), at)
        for text in texts:
            at += len(text)
            index += struct.pack("<Q", at)
        blob = index + b"".join(texts)
        digest = hashlib.sha256(blob).hexdigest()
        self._upload({digest: lambda: _parts(blob)}, {digest: len(blob)})
        spec = {"version": 1, "list": {"digest": digest, "tasks": len(texts), "bytes": len(blob)}}
        return self._scripts(spec, worker, inputs, outputs, env, capture, valid, memory, timeout, max_parallel, after, preloads, job)

    def _scripts(self, spec, worker, inputs, outputs, env, capture, valid, memory, timeout, max_parallel, after, preloads, job):
        optional = {
            "worker": worker, "env": ["%s=%s" % kv for kv in (env or {}).items()], "inputs": self._ship(inputs), "outputs": list(outputs),
            "capture": "json" if capture else "", "valid": valid, "timeout_ms": int(timeout * 1000), "memory": memory,
            "preloads": sorted(set(preloads)),
        }
        spec.update((k, v) for k, v in optional.items() if v)
        request = _submission(spec, **job)
        request["maxParallel"] = max_parallel
        request["after"] = [{"job": j.id if isinstance(j, Job) else j} for j in after]
        return Job(self, self.call("SubmitScripts", request)["job"])

    def job(self, name):
        """A job that is there: by its id, the unique beginning of one, its name, or "last"."""
        return Job(self, self.call("Job", {"job": name})["id"])

    def jobs(self, all=False):
        """What is known of the jobs that have not ended, or of all."""
        return self.call("Jobs", {"all": all}).get("jobs", [])

    def nodes(self):
        """What is known of the members."""
        return self.call("Nodes", {}).get("nodes", [])

    def call(self, verb, request):
        """One call of the node's API: the request and the answer are its messages, in JSON."""
        return self._persist(lambda: self._once(verb, "application/json", json.dumps(request).encode(), json.load))

    def _ship(self, inputs):
        """Send files to the node, and give them as a specification names them."""
        listed, sources, sizes = [], {}, {}
        for given in inputs:
            local, path = given if isinstance(given, tuple) else (given, given)
            path = os.path.normpath(path).replace(os.sep, "/")
            if path.startswith(("/", "../")):
                path = os.path.basename(path)
            digest, size = hashlib.sha256(), 0
            with open(local, "rb") as f:
                for part in iter(lambda: f.read(_BLOB_PART), b""):
                    digest.update(part)
                    size += len(part)
            name = digest.hexdigest()
            sources[name], sizes[name] = (lambda local=local: _file_parts(local)), size
            row = {"path": path, "digest": name, "bytes": size}
            if os.access(local, os.X_OK):
                row["exec"] = True
            listed.append(row)
        self._upload(sources, sizes)
        return listed

    def _upload(self, sources, sizes):
        digests = list(sources)
        while digests:
            asked, digests = digests[:_MISSING_AT_ONCE], digests[_MISSING_AT_ONCE:]
            for digest in self.call("MissingBlobs", {"digests": asked}).get("digests", []):
                self._persist(lambda: self._put(digest, sizes[digest], sources[digest]()))

    def _put(self, digest, size, parts):
        def messages():
            head = {"digest": digest, "bytes": str(size)}
            for part in parts:
                yield _envelope(dict(head, data=base64.b64encode(part).decode()))
                head = {}
            if head:
                yield _envelope(head)

        self._once("PutBlob", "application/connect+json", messages(), lambda r: list(_messages(r)))

    def _persist(self, attempt):
        """Repeat an attempt until it gets through, or until none has for `patience` seconds."""
        if not os.path.isdir(self.data):
            raise Unavailable("there is no data directory " + self.data, "name the one of this machine's node: Mesh(data=...)", "unavailable")
        began, pause = time.monotonic(), 0.05
        while True:
            try:
                return attempt()
            except (OSError, http.client.HTTPException) as e:
                failed = Unavailable("the node of %s cannot be reached: %s" % (self.data, e), "start it with: seedmesh up --data " + self.data, "unavailable")
            except Unavailable as e:
                failed = e
            if time.monotonic() - began > self.patience:
                raise failed
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _once(self, verb, kind, body, read):
        """One exchange with the node; read gets what it answers."""
        connection = _UnixConnection(_socket_path(self.data), _ANSWER)
        try:
            chunked = not isinstance(body, bytes)
            headers = {"Content-Type": kind, "Connect-Protocol-Version": "1"}
            if chunked:
                headers["Transfer-Encoding"] = "chunked"
            try:
                connection.request("POST", "/seedmesh.v1.Mesh/" + verb, body, headers, encode_chunked=chunked)
            except BrokenPipeError:
                pass  # the node has seen enough: its answer says why
            response = connection.getresponse()
            if response.status != 200:
                raise _refusal(response)
            return read(response)
        finally:
            connection.close()

    def _stream(self, verb, request):
        """The messages of a streamed answer. A connection that breaks is the caller's to mend."""
        connection = _UnixConnection(_socket_path(self.data), _ANSWER)
        try:
            connection.request("POST", "/seedmesh.v1.Mesh/" + verb, _envelope(request), {"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1"})
            response = connection.getresponse()
            if response.status != 200:
                raise _refusal(response)
            yield from _messages(response)
        finally:
            connection.close()


class Job:
    """A job of the mesh; id is its name."""

    def __init__(self, mesh, id):
        self.mesh, self.id = mesh, id

    def __repr__(self):
        return "seedmesh.Job(%r)" % self.id

    def info(self):
        """How the job stands: state, done, total, survivors, and more. Counts are decimal strings."""
        return self.mesh.call("Job", {"job": self.id})

    def wait(self, timeout=None):
        """Wait for the end, and give the job's info. JobFailed is raised for another end than done, WaitTimeout when it
        does not come within timeout seconds."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, until - time.monotonic())
            info = self.mesh.call("Job", {"job": self.id, "waitMs": str(int(1000 * min(left, _POLL)))})
            if info["state"] == "done":
                return info
            if info["state"] in ("failed", "cancelled"):
                raise JobFailed(info)
            if left == 0:
                raise WaitTimeout("job %s has not ended within %s seconds" % (self.id, timeout), "it goes on: wait again, or cancel it", "deadline_exceeded")

    def results(self, partial=False):
        """Iterate over the survivors of a search, or the outcomes of the tasks that are done, in order. They are streamed:
        memory does not grow with them. A node that goes away meanwhile is waited for, and nothing comes twice."""
        for line in self._lines(partial):
            row = json.loads(line)
            if "seed" in row:
                row["seed"] = int(row["seed"])
            yield row

    def _lines(self, partial):
        have, rest, silent = 0, b"", None  # silent is since when nothing new has come
        while True:
            skip, gained = have, False
            try:
                for message in self.mesh._stream("Results", {"job": self.id, "partial": partial}):
                    data = base64.b64decode(message.get("data", ""))
                    new, skip = data[skip:], max(0, skip - len(data))
                    have, gained = have + len(new), gained or bool(new)
                    *lines, rest = (rest + new).split(b"\n")
                    yield from lines
                return
            except (OSError, http.client.HTTPException, Unavailable) as e:
                if gained or silent is None:
                    silent = time.monotonic()
                if time.monotonic() - silent > self.mesh.patience:
                    raise Unavailable("the results of job %s cannot be read: %s" % (self.id, e), "try again: it is safe", "unavailable") from e
                time.sleep(0.1)

    def save(self, directory):
        """Write the outputs of the tasks that are done below a directory, each whole or not at all, and list their paths:
        those that a task declared for itself under their own, others below the task's name."""
        return self.mesh._persist(lambda: self._save(directory))

    def _save(self, directory):
        root, saved, part = os.path.realpath(directory), [], None
        try:
            for chunk in self.mesh._stream("Outputs", {"job": self.id, "partial": True}):
                if part is None:
                    path = chunk["path"] if chunk.get("own") else os.path.join(chunk["task"], chunk["path"])
                    target = os.path.realpath(os.path.join(root, path))
                    if os.path.commonpath([root, target]) != root or target == root:
                        raise Error("the output %r leaves the directory" % path, "the job is not to be trusted", "data_loss")
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    part, digest = tempfile.NamedTemporaryFile(dir=os.path.dirname(target), delete=False), hashlib.sha256()
                data = base64.b64decode(chunk.get("data", ""))
                part.write(data)
                digest.update(data)
                if not chunk.get("end"):
                    continue
                if digest.hexdigest() != chunk["digest"]:
                    raise Unavailable("the output %s arrived damaged" % path, "try again: it is safe", "unavailable")
                os.fchmod(part.fileno(), 0o755 if chunk.get("executable") else 0o644)
                part.close()
                os.replace(part.name, target)
                part = None
                saved.append(path)
        finally:
            if part is not None:
                part.close()
                os.unlink(part.name)
        return saved

    def cancel(self):
        """Cancel the job. When this returns, no new attempt of it starts. That it is cancelled already is no error."""
        return self._control("cancel")

    def pause(self):
        """Have no new attempt of the job start until it is resumed."""
        return self._control("pause")

    def resume(self):
        """Go on with a paused job."""
        return self._control("resume")

    def _control(self, action):
        return self.mesh.call("Control", {"job": self.id, "action": action, "request": base64.b64encode(os.urandom(16)).decode()})


def _submission(spec, name="", key=None, priority=0, chunk_time=10.0, attempts=3, timeout=0):
    request = {
        "spec": base64.b64encode(json.dumps(spec).encode()).decode(), "name": name, "key": key or uuid.uuid4().hex, "priority": priority,
        "chunkTimeMs": str(int(chunk_time * 1000)), "attempts": attempts, "submitter": "python",
    }
    if timeout:
        request["timeoutMs"] = str(int(timeout * 1000))
    return request


def _draw(number, value):
    try:
        if value is None:
            return "*"
        if isinstance(value, tuple):
            return "%d:%d" % value
        return str(int(value))
    except (TypeError, ValueError):
        raise BadRequest("draw number %d is %r" % (number, value), "give a whole number, None, or (A, B)", "invalid_argument") from None


def _pair(what, value):
    try:
        least, most = value
        return int(least), int(most)
    except (TypeError, ValueError):
        raise BadRequest("%s is %r" % (what, value), "give two whole numbers, such as (0, 16)", "invalid_argument") from None


def _bounds(what, value):
    least, most = _pair(what, value if isinstance(value, (tuple, list)) else (value, value))
    return {"min": least, "max": most}


def _task(given):
    if not isinstance(given, dict):
        return {"argv": [str(w) for w in given]}
    row = dict(given, argv=[str(w) for w in given["argv"]])
    if "timeout" in row:
        row["timeout_ms"] = int(row.pop("timeout") * 1000)
    return row


def _parts(blob):
    return (blob[i:i + _BLOB_PART] for i in range(0, len(blob), _BLOB_PART))


def _file_parts(local):
    with open(local, "rb") as f:
        yield from iter(lambda: f.read(_BLOB_PART), b"")


def _envelope(message):
    """A message of a stream: a byte of flags, its length, its JSON."""
    text = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(text)) + text


def _messages(response):
    while True:
        head = response.read(5)
        if len(head) < 5:
            raise http.client.IncompleteRead(head)
        flags, size = struct.unpack(">BI", head)
        text = response.read(size)
        if len(text) < size:
            raise http.client.IncompleteRead(text)
        message = json.loads(text)
        if not flags & _END_OF_STREAM:
            yield message
            continue
        if "error" in message:
            raise _error(message["error"])
        return


def _refusal(response):
    try:
        return _error(json.load(response))
    except ValueError:
        return Unavailable("the node answered with status %d" % response.status, "try again: it is safe", "unavailable")


def _socket_path(data):
    path = os.path.join(data, "api.sock")
    if len(path.encode()) <= _SOCKET_PATH:
        return path
    name = hashlib.sha256(data.encode()).hexdigest()[:24] + ".sock"
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", "seedmesh-%d" % os.getuid(), name)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("seedmesh", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)
