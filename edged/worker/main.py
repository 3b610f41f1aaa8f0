"""The worker's loop: receive a batch, decode, preprocess, stack, run, split, postprocess, encode, answer.

One thread, one model, plain synchronous code. Batches are answered in order and never merged; one may
be run in several parts when its inputs cannot share a run.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

import msgspec

from edged import channel
from edged.channel import AnswerHead, Answers, Batch, Compare, Generate, Gild, InputHead, Open, Opened, Ready, Refused
from edged.config.steps import Form, ResultFormat
from edged.door import Leave, Listen, Underway
from edged.errors import EdgedError, fault
from edged.messages import FAST, GRPC, JOINED
from edged.rings import Ring
from edged.tensors import Signature
from edged.worker import pictures
from edged.worker.alike import Alike
from edged.worker.axes import check_shared, shared_axes
from edged.worker.cores import pin
from edged.worker.direct.server import Server
from edged.worker.direct.swift import Swift
from edged.worker.external import check_beside
from edged.worker.formats import rpc
from edged.worker.formats.brief import encode_brief
from edged.worker.formats.decoded import Decoded
from edged.worker.formats.encode import Output, encode
from edged.worker.formats.fast import Fast
from edged.worker.formats.shown import shown
from edged.worker.formats.table import decode
from edged.worker.job import Job
from edged.worker.joined import decode_joined
from edged.worker.lasting import Lasting
from edged.worker.memory import attach
from edged.worker.preparing import write_form
from edged.worker.questions import FAULTS_ROOM, Cases, made_up, shortened
from edged.worker.session import Model
from edged.worker.stack import shape_key, stack, unstack
from edged.worker.steps.check import check
from edged.worker.steps.outline import takes_pictures
from edged.worker.steps.prepare import prepare
from edged.worker.steps.table import labels_shown, output_shown, outputs_used, postprocess, rounded_to, value_shown

_ANY_FORM: Final = Form()
Answered = tuple[list[tuple[AnswerHead, bytes]], tuple[int, ...]]


class _Done(NamedTuple):
    """What a batch is answered with, when it was decoded and run, and the rows of each run."""

    heads: Sequence[AnswerHead]
    payloads: Sequence[bytes | memoryview]
    decoded_ns: int
    run_ns: int
    rows: tuple[int, ...]


def serve(sock: socket.socket) -> None:
    """Loads what the first message names, then answers until the channel is closed."""
    passed: list[int] = []
    opening, _ = channel.receive(sock, payload_limit=0, passed=passed)
    if not isinstance(opening, Open) or len(passed) != 2:
        raise channel.ProtocolError("the first message must say what to load, and bring two rings")
    try:
        if opening.prepare:
            write_form(opening)
            channel.send(sock, Opened(Signature((), ())))
            return
        worker = Worker(sock, opening, *attach(*passed))
    except EdgedError as error:
        channel.send(sock, Refused(error.fault, error.where))
        return
    except channel.ProtocolError:  # hundreds of tensors with long names
        channel.send(sock, Refused(fault("unsupported", "its inputs and outputs do not fit a message of 64 KiB")))
        return
    worker.loop()


class Worker:
    """A loaded model behind its channel. Raises EdgedError when the model cannot be loaded."""

    def __init__(self, sock: socket.socket, opening: Open, inputs: Ring, results: Ring) -> None:
        self.sock = sock
        self._opening = opening
        self._inputs, self._results = inputs, results
        batch_max = opening.batch_max
        if takes_pictures(opening.forms, opening.preprocess):
            pictures.load()
            batch_max = 1  # reading a picture costs more than a shared run saves, and limits.run is for all of a batch
        pin(opening.cpus)
        check_beside(opening.file, opening.beside if not opening.prepared else None)
        started_s = time.monotonic()
        self._model = model = Model.told(opening)
        load_s = time.monotonic() - started_s
        signature = model.signature
        if misfits := check(opening.preprocess, opening.postprocess, signature, opening.forms):
            raise EdgedError("bad_config", f"{opening.model}: {'; '.join(misfits)}", where=misfits[0].where)
        channel.send(sock, Opened(signature))
        measured = model.measure(batch_max=batch_max)
        self._stacks, self._most = model.stackable, measured.batch_max
        self._passed: list[int] = []
        self._shared = shared_axes(signature)
        self._all = [spec.name for spec in signature.outputs]
        self._used = outputs_used(opening.postprocess, signature)
        self._decimals = rounded_to(opening.postprocess, signature)
        self._labels = labels_shown(opening.postprocess, signature)
        self._lasting = Lasting()
        self._fast = Fast(signature)
        self._alike = Alike(opening.model, opening.version, self._all, stacks=self._stacks)
        self._cases = Cases(self._model)
        self._shown = output_shown(opening.postprocess, signature)
        self._best = value_shown(opening.postprocess)
        if opening.result != "oip":
            self._used += (self._shown,)
        cost = (load_s, measured.run_s, measured.batch_max, measured.gain)
        channel.send(sock, Ready(signature, model.providers, *cost, model.fallback))

    def loop(self) -> None:
        """Answers messages, and clients while it is told to, until the daemon closes the channel."""
        with contextlib.suppress(channel.Closed):
            while True:
                said = self.receive()
                if said is not None:
                    self._serve_clients(said)

    def receive(self) -> Listen | Leave | None:
        """Takes one message; those about the model's own socket are the caller's. Raises channel.Closed."""
        limit = 2 * self._opening.message_limit
        message, payload = channel.receive(self.sock, payload_limit=limit, ring=self._inputs, passed=self._passed)
        if isinstance(message, Listen | Leave):
            return message
        if isinstance(message, Batch):
            self._answer(message, payload)
        elif isinstance(message, Generate):
            self._generate(message)
        elif isinstance(message, Compare | Gild):
            self._compare(message)
        else:
            raise channel.ProtocolError(f"a worker is not sent {type(message).__name__}")
        return None

    def _serve_clients(self, said: Listen | Leave) -> None:
        """Until another process of the model does (serving.direct)."""
        if not self._passed:
            return  # said to one that served them, which has left meanwhile: the daemon has yet to read that
        if not isinstance(said, Listen) or len(self._passed) != 2:
            raise channel.ProtocolError("a worker that serves clients is told so, with the socket and the memory")
        listener, memory = self._passed
        self._passed = []
        underway = Underway.attach(memory)
        os.close(memory)
        swift = Swift(self._model, self._opening.message_limit, usable=not self._shared)
        sock, signature = socket.socket(fileno=listener), self._model.signature
        Server(self, sock, underway, said, self._opening, signature, self._most, swift).serve()

    def spent_ns(self) -> int:
        return self._model.spent_ns()

    def answers(self, heads: Sequence[InputHead], parts: Sequence[memoryview]) -> Answered:
        """Runs inputs together where that can be: their answers, in order, and the rows of each run."""
        jobs = [self._decode(head, part) for head, part in zip(heads, parts, strict=True)]
        rows = self._run(jobs)
        return [self._encode(job, room=FAULTS_ROOM // len(jobs)) for job in jobs], rows

    def _answer(self, batch: Batch, payload: memoryview) -> None:
        spent_ns, started_ns = self._model.spent_ns(), time.perf_counter_ns()
        done = self._together(batch.heads, payload) or self._each(batch.heads, payload)
        said = sum([len(head.fault.message.encode()) for head in done.heads if head.fault is not None])
        channel.send(
            self.sock,
            Answers(
                batch.number,
                tuple(done.heads),
                place=self._place(done.payloads, batch.room, inputs=len(done.heads), besides=said),
                decode_ns=done.decoded_ns - started_ns,
                run_ns=done.run_ns - done.decoded_ns,
                encode_ns=time.perf_counter_ns() - done.run_ns,
                cpu_ns=self._model.spent_ns() - spent_ns,
                rows=done.rows,
            ),
            done.payloads,
            ring=self._results,
        )

    def _together(self, heads: Sequence[InputHead], payload: memoryview) -> _Done | None:
        """Answers inputs that are alike, and like one before them; None: each is to be looked at."""
        found = self._alike.find(heads, payload)
        if found is None:
            return None
        decoded_ns, count = time.perf_counter_ns(), len(heads)
        plan, feeds = found
        job = Job(plan.job.head, plan.job.decoded, feeds)
        self._run_alone(job)
        run_ns = time.perf_counter_ns()
        if job.fault is not None and count > 1:
            return None  # whose it is shows only alone
        encoded = None
        if job.fault is None:
            encoded = self._alike.encode(plan, job.outputs, count, self._opening.message_limit)
        rows = () if job.fault is not None else (count * (plan.job.rows or 1),)
        if encoded is not None:
            return _Done(*encoded, decoded_ns, run_ns, rows)
        jobs = [job]
        if count > 1:
            parts = unstack(list(job.outputs.values()), [plan.job.rows] * count)
            if parts is None:
                return None
            outputs = [dict(zip(job.outputs, part, strict=True)) for part in parts]
            jobs = [Job(job.head, job.decoded, outputs=one) for one in outputs]
        return self._encoded(jobs, decoded_ns, run_ns, rows)

    def _each(self, heads: Sequence[InputHead], payload: memoryview) -> _Done:
        parts = channel.split(heads, payload)
        jobs = [self._decode(head, part) for head, part in zip(heads, parts, strict=True)]
        decoded_ns = time.perf_counter_ns()
        if jobs[0].fault is None and not self._opening.postprocess:
            self._alike.learn(jobs[0], parts[0])
        rows = self._run(jobs)
        return self._encoded(jobs, decoded_ns, time.perf_counter_ns(), rows)

    def _encoded(self, jobs: Sequence[Job], decoded_ns: int, run_ns: int, rows: tuple[int, ...]) -> _Done:
        answers = [self._encode(job, room=FAULTS_ROOM // len(jobs)) for job in jobs]
        return _Done([head for head, _ in answers], [part for _, part in answers], decoded_ns, run_ns, rows)

    def _place(self, payloads: Sequence[bytes | memoryview], room: int, *, inputs: int = 1, besides: int = 0) -> int:
        """Where an answer's payloads go: into its message, its slot, or a memfd. `besides`: bytes of its faults."""
        size = sum(map(len, payloads))
        if channel.inline_room(size + besides, inputs):
            return channel.INLINE
        return room if room >= 0 and size <= self._results.slot_bytes else channel.MEMFD

    def _generate(self, request: Generate) -> None:
        head, payload = made_up(self._model, request.seed, self._opening.message_limit)
        place = self._place([payload], request.room)
        channel.send(self.sock, Answers(request.number, (head,), place=place), [payload], ring=self._results)

    def _compare(self, asked: Compare | Gild) -> None:
        head, payload = self._cases.answer(asked)
        channel.send(self.sock, Answers(asked.number, (head,)), [payload])

    # --- the steps of a batch -------------------------------------------------------------------------

    def _decode(self, head: InputHead, part: memoryview) -> Job:
        job, opening = Job(head), self._opening
        form = opening.forms[head.form] if 0 <= head.form < len(opening.forms) else _ANY_FORM
        try:
            if head.form == JOINED:
                decoded, made = decode_joined(opening.forms, part, opening.preprocess, self._model.signature)
            else:
                decoded = self._completed(form, head, part)
                made = prepare(decoded, opening.preprocess, self._model.signature)
            job.feeds, job.rows, job.view = made
            check_shared(job.feeds, self._shared)
            # Without the picture: 134 MB of a large one are the run's now.
            job.decoded = decoded if decoded.picture is None else msgspec.structs.replace(decoded, picture=None)
        except EdgedError as error:
            job.fail(error)
        except MemoryError:
            job.fail(EdgedError("over_memory", "the input does not fit into limits.memory"))
        return job

    def _completed(self, form: Form, head: InputHead, part: memoryview) -> Decoded:
        """One payload decoded, with what its stream sent last in place of what it lacks where that is asked for."""
        if head.form == FAST:
            return self._fast.decode(part)
        if not head.memory:
            return decode(form, head, part, self._model.signature)
        key = (head.form, head.memory)
        part, sent = self._lasting.complete(key, form, part)
        decoded = decode(form, head, part, self._model.signature)
        self._lasting.keep(key, sent)
        return decoded

    def _run(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """Runs what was decoded, stacked where possible; whose fault an error is shows only alone.

        Returns the rows of each run that succeeded, 1 for an input that has none.
        """
        rows: list[int] = []
        groups: dict[Hashable, list[Job]] = {}
        for job in jobs:
            if job.fault is None:
                key = shape_key(job.feeds) if self._stacks and job.rows and len(jobs) > 1 else id(job)
                groups.setdefault(key, []).append(job)
        for group in groups.values():
            if len(group) > 1 and self._run_stacked(group):
                rows.append(sum(job.rows for job in group))
                continue
            for job in group:
                self._run_alone(job)
                if job.fault is None:
                    rows.append(job.rows or 1)
        return tuple(rows)

    def _run_alone(self, job: Job) -> None:
        names = self._names([job])
        try:
            outputs = self._model.run(job.feeds, names)
            stepped, result = postprocess(self._opening.postprocess, outputs, job.feeds)
        except EdgedError as error:
            job.fail(error, in_run=True)
            return
        except MemoryError:
            job.fail(EdgedError("over_memory", "the outputs do not fit into limits.memory"))
            return
        job.outputs = stepped if _takes_steps(job) else outputs
        job.shown = stepped.get(self._shown)
        job.found = None if result is None else result.of(0, len(result.rows), job.view, job.feeds)

    def _run_stacked(self, group: list[Job]) -> bool:
        """One run for all; False when it failed, or when an output does not have a row for each input row."""
        names, counts = self._names(group), [job.rows for job in group]
        try:
            feeds = stack([job.feeds for job in group])
            outputs = self._model.run(feeds, names)
            parts = unstack(list(outputs.values()), counts)
            if parts is None:
                return False
            stepped, result = postprocess(self._opening.postprocess, outputs, feeds)
        except (EdgedError, MemoryError):
            return False
        stepped_parts = unstack(list(stepped.values()), counts) if any(map(_takes_steps, group)) else parts
        if stepped_parts is None or (result is not None and len(result.rows) != sum(counts)):
            return False
        start = 0
        for job, own, changed in zip(group, parts, stepped_parts, strict=True):
            job.outputs = dict(zip(names, changed if _takes_steps(job) else own, strict=True))
            job.shown = dict(zip(names, changed, strict=True)).get(self._shown)
            job.found = None if result is None else result.of(start, job.rows, job.view, job.feeds)
            start += job.rows
        return True

    def _names(self, group: Sequence[Job]) -> list[str]:
        """The outputs to run for: all, or what is asked for and what the steps read, in the model's order."""
        wanted: set[str] = set(self._used)
        for job in group:
            if job.decoded is None or job.decoded.requested is None:
                return self._all
            wanted.update(job.decoded.requested)
        return [name for name in self._all if name in wanted]

    def _encode(self, job: Job, room: int) -> tuple[AnswerHead, bytes]:
        if job.fault is not None or job.decoded is None:
            return AnswerHead(0, fault=job.fault and shortened(job.fault, room), own=job.own), b""
        decoded, opening = job.decoded, self._opening
        copy, copied = b"", 0
        try:
            outputs = shown(decoded, job.outputs, self._all, self._labels)
            if job.head.form == FAST:
                (payload, nonfinite), json_length = self._fast.encode(outputs, job.found if decoded.steps else None), 0
            elif job.head.form == GRPC and not job.head.binary:
                payload, nonfinite = rpc.encode(opening.model, opening.version, _id(job), outputs, job.found)
                json_length = 0
            elif opening.result == "oip" or job.head.form == -1 or job.head.binary:
                payload, json_length, nonfinite = self._response(job, outputs)
            else:
                (payload, nonfinite), json_length = self._brief(job, opening.result), 0
            if job.head.copy:
                copy, copied = self._copy(job, outputs, opening.message_limit - len(payload))
        except MemoryError:
            return AnswerHead(0, fault=fault("over_memory", "the answer does not fit into limits.memory")), b""
        if len(payload) > opening.message_limit:
            text = f"the answer has {len(payload)} bytes, above the limit of {opening.message_limit}"
            return AnswerHead(0, fault=fault("output_too_large", text)), b""
        size = len(payload) + len(copy)
        head = AnswerHead(size, json_length, ts_ms=decoded.ts_ms, nonfinite=nonfinite, copy=copied)
        return head, payload + copy if copy else payload

    def _response(self, job: Job, outputs: Sequence[Output]) -> tuple[bytes, int, bool]:
        opening, decimals = self._opening, self._decimals if _takes_steps(job) else {}
        return encode(opening.model, opening.version, _id(job), outputs, job.found, decimals)

    def _brief(self, job: Job, kind: ResultFormat) -> tuple[bytes, bool]:
        return encode_brief(kind, job.found, job.shown, self._decimals.get(self._shown), self._best)

    def _copy(self, job: Job, outputs: Sequence[Output], room: int) -> tuple[bytes, int]:
        """The result once more, as subscribers get it, and its length; -1 where it has no room."""
        if self._opening.result == "oip":
            copy = self._response(job, [(*output[:3], False) for output in outputs])[0]
        else:
            copy = self._brief(job, self._opening.result)[0]
        return (copy, len(copy)) if len(copy) <= room else (b"", -1)


def _id(job: Job) -> str:
    return job.head.id if job.decoded is None else job.decoded.id or job.head.id


def _takes_steps(job: Job) -> bool:
    """Whether the answer shows the outputs as the steps left them, rather than the model's own."""
    return job.decoded is not None and (job.decoded.plain or job.decoded.steps)
