"""Every error edged can answer with: its stable code, and the shape it takes on each transport.

A sender gets the same `code`, `message` and `hint` over HTTP, MQTT and the command line; scripts
key on `code`, people read the rest. docs/errors.md is generated from the table below.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Meaning(msgspec.Struct, frozen=True):
    """What a code means: `http` is its HTTP status, `hint` what to do when nothing better is known."""

    http: int
    means: str
    hint: str


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """One error as a value: what travels from a worker, in an answer or in a status."""

    code: str
    message: str
    hint: str = ""


class EdgedError(Exception):
    """An error that knows its stable code; `fault` is what its sender is told.

    `where` is the key of the model's settings that is to blame, such as `preprocess[1]`, where one is known to be.
    """

    def __init__(self, code: str, message: str, hint: str | None = None, *, where: str = "") -> None:
        if code not in CODES:
            raise KeyError(f"{code!r} is not in the table of codes")
        super().__init__(message)
        self.fault: Final = fault(code, message, hint)
        self.where: Final = where

    def __str__(self) -> str:
        return f"{self.fault.code}: {self.fault.message}"


def fault(code: str, message: str, hint: str | None = None) -> Fault:
    """A Fault with the table's hint where none is given."""
    return Fault(code, message, CODES[code].hint if hint is None else hint)


def http_status(code: str) -> int:
    return CODES[code].http


def grpc_status(code: str) -> int:
    """The number of gRPC's status: that of the HTTP status, but where gRPC has a word of its own."""
    return GRPC_STATUS[grpc_word(code)]


def grpc_word(code: str) -> str:
    """The same as a word."""
    return _GRPC_OF_CODE.get(code) or _GRPC_OF_HTTP[CODES[code].http]


def as_json(problem: Fault, *, id: str = "", topic: str = "") -> dict[str, str]:
    """The MQTT and fast-lane shape: {"id","code","message","hint","topic"}; `id` and `topic` only when known."""
    shape = {"id": id, "code": problem.code, "message": problem.message, "hint": problem.hint, "topic": topic}
    return {name: text for name, text in shape.items() if text or name not in ("id", "topic")}


def as_oip(problem: Fault) -> dict[str, str]:
    """The Open Inference Protocol's shape: `error`, plus `code` and `hint`."""
    return {"error": problem.message, "code": problem.code, "hint": problem.hint}


GRPC_STATUS: Final = {
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}
_GRPC_OF_HTTP: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    507: "RESOURCE_EXHAUSTED",
}
_GRPC_OF_CODE: Final = {"deadline": "DEADLINE_EXCEEDED"}

CODES: Final[dict[str, Meaning]] = {
    # --- an input ---------------------------------------------------------------------------------
    "bad_input": Meaning(400, "The input does not fit the model.", "Compare it with `edged inspect` of the model."),
    "poison_input": Meaning(
        400,
        "This input ended the model's process twice, the second time alone.",
        "Keep the input and report it to the model's maker.",
    ),
    "unauthorized": Meaning(
        401, "No token, or a wrong one.", "Send the header `Authorization: Bearer TOKEN` with sockets.token_file's."
    ),
    "forbidden": Meaning(403, "The caller may not do this.", "Control needs root or the group edged-admin."),
    "unknown_model": Meaning(404, "No model of this name is configured.", "`edged status` lists the models."),
    "not_found": Meaning(404, "There is nothing at this address.", "docs/http-api.md lists the addresses."),
    "method_not_allowed": Meaning(405, "This address does not take this verb.", "docs/http-api.md lists the verbs."),
    "timeout": Meaning(408, "The request did not arrive in time.", "Send the whole request without a pause."),
    "too_large": Meaning(413, "The body is above the limit and was not read.", "Raise limits.message, or send less."),
    "input_too_large": Meaning(
        413, "The input is above the model's limits.message.", "Raise limits.message, or send less."
    ),
    "internal": Meaning(500, "A fault of edged itself.", "The journal has the traceback: please report it."),
    "model_failed": Meaning(
        500, "The model's run failed, timed out, or the model cannot be started.", "See `edged status` and the journal."
    ),
    "output_too_large": Meaning(
        500, "The model's output is above limits.message.", "Raise limits.message, or ask for fewer outputs."
    ),
    "refused_by_broker": Meaning(
        500,
        "The broker says no to a result, or ends the connection over it.",
        "Check its ACL for the topic of the result, and its limits.",
    ),
    "unsupported": Meaning(501, "edged does not do this.", "The pages in docs/ say what it does."),
    "queue_full": Meaning(503, "The model's queue is full.", "Send slower, or raise queue.size."),
    "rate_limited": Meaning(429, "The input came above its topic's max_rate.", "Send slower, or raise max_rate."),
    "replaced": Meaning(
        503, "A newer input of the same stream took its place.", "Nothing to do: the newer one counts."
    ),
    "too_old": Meaning(503, "The input was older than max_age when its turn came.", "Send fresher, or raise max_age."),
    "no_partner": Meaning(
        503, "The values of the model's other inputs did not come in time.", "Look for the topic that is silent."
    ),
    "deadline": Meaning(503, "The deadline passed before the answer.", "Send slower, or raise the deadline."),
    "starting": Meaning(503, "The model is loading, or waits for its first push.", "Try again in a moment."),
    "over_memory": Meaning(503, "The model went over limits.memory.", "Raise limits.memory, or send less at once."),
    "stopping": Meaning(503, "The daemon is stopping.", "Try again in a moment."),
    # --- a pushed model ---------------------------------------------------------------------------
    "unsigned": Meaning(403, "A simple push needs push.require_signature: false.", "Sign it, or allow simple pushes."),
    "retained_push": Meaning(400, "A simple push must not be retained.", "Publish it without the retain flag."),
    "bad_version": Meaning(400, "A push's version is a positive whole number.", "Leave it out to count on by one."),
    "not_a_model": Meaning(
        400, "The file is not an ONNX model that onnxruntime can load.", "`edged inspect` looks at the file."
    ),
    "io_mismatch": Meaning(
        400, "Its inputs or outputs differ from the running model's.", "Give a model with another signature a new name."
    ),
    "nonfinite": Meaning(400, "It answers NaN or infinity where it should not.", "Check the model's weights."),
    "trial_error": Meaning(400, "Its run failed in the trial.", "Run it with `edged inspect` on your machine."),
    "trial_crash": Meaning(400, "It ended its own process in the trial.", "Run it with `edged inspect` elsewhere."),
    "trial_crash_loop": Meaning(400, "Its trial was cut short twice.", "Look for a crash in the journal."),
    "too_slow": Meaning(400, "It is too slow for this box.", "Push a smaller model, or raise limits.run."),
    "probation_errors": Meaning(400, "It failed too often after the switch.", "See its errors in the journal."),
    "probation_latency": Meaning(400, "It became too slow after the switch.", "Push a smaller model."),
    "probation_crash": Meaning(400, "It ended its own process after the switch.", "See the journal."),
    "superseded": Meaning(409, "A newer push took its place.", "Nothing to do."),
    "not_meant": Meaning(
        409,
        "The order is for other boxes: this one has another name or other groups since it came.",
        "Push to the name or a group that the box has now.",
    ),
    "undone": Meaning(409, "An operator went back to the version before.", "Push the version you want."),
    "no_previous": Meaning(409, "There is no previous version to go back to.", "Push the version you want."),
    "busy": Meaning(409, "Another installation of this model is under way.", "Try again when it has ended."),
    "no_space": Meaning(507, "There is not enough disk or memory to try it.", "Make room on the box and try again."),
    "bad_store": Meaning(500, "A stored model file is missing or damaged.", "Push the model again."),
    # --- a signed release -------------------------------------------------------------------------
    "no_trust": Meaning(
        403, "The box has no root of trust, so it takes no signed release.", "Name one with push.trust."
    ),
    "bad_document": Meaning(400, "A signed document is not what it has to be.", "Make it with this version of edged."),
    "signature": Meaning(
        403, "Too few of the keys that count have signed it.", "Sign it with a key of the role: `edged trust show`."
    ),
    "expired": Meaning(403, "The document is past its time.", "Push again: a new want has a new time."),
    "clock_suspect": Meaning(
        403, "The box's clock is so far ahead that everything looks expired.", "Set the clock of the box."
    ),
    "seq_conflict": Meaning(
        409, "Two different documents carry one sequence number.", "Somebody else signs with this key: change it."
    ),
    "replayed": Meaning(409, "An older document than the box has seen already.", "Push again, with a new want."),
    "downgrade": Meaning(409, "The version is below the one that the box has.", "Push it with --allow-downgrade."),
    "banned": Meaning(403, "The release is banned by the trust document.", "Push another release."),
    "pinned": Meaning(409, "An operator holds the model at its version.", "`edged unpin` on the box, or --retry."),
    "golden": Meaning(
        400,
        "Its answers to the golden inputs are not the golden ones.",
        "Look at the model, or release it with a wider --atol or --rtol.",
    ),
    "bad_chunk": Meaning(400, "A chunk came damaged, again and again.", "Push again: `edged push` mends the broker."),
    "bad_settings": Meaning(
        400, "The release's model.yaml is not valid here.", "It may set preprocess, postprocess and batch."
    ),
    "bad_release": Meaning(400, "The folder is not a release.", "Make one with `edged release`."),
    "no_blob": Meaning(503, "The broker does not have a piece of the release.", "Run `edged push` again."),
    "slow": Meaning(503, "The release comes too slowly.", "Look at the link to the broker."),
    "not_now": Meaning(503, "It is outside the hours of push.install.", "Nothing to do: it waits for its time."),
    "manual": Meaning(503, "push.install is manual: it waits for a person.", "`edged install MODEL` on the box."),
    "paused": Meaning(503, "The rollout is paused.", "`edged fleet rollout` goes on with it."),
    "halted": Meaning(
        409, "A rollout did not come through all its waves.", "`edged fleet status --bad` says why; then run it again."
    ),
    "no_order": Meaning(404, "There is no want of this model on the broker.", "Push a release: `edged push`."),
    "no_undo": Meaning(
        404, "The newest want has no undo beside it.", "Push the version that you want, with --allow-downgrade."
    ),
    "bad_key": Meaning(500, "A key cannot be used.", "`edged keys show` lists the keys."),
    # --- the box ----------------------------------------------------------------------------------
    "state_in_use": Meaning(
        500, "Another edged uses the state directory.", "Stop it, or give this one a directory of its own."
    ),
    "no_state": Meaning(
        500, "The state directory cannot be used.", "Name one that edged may write in the variable STATE_DIRECTORY."
    ),
    "needs_restart": Meaning(
        409, "The change takes effect at a restart alone: nothing was reloaded.", "`systemctl restart edged`"
    ),
    "no_provider": Meaning(
        500,
        "What the model is to run on cannot be used here.",
        "`edged doctor` says what is missing; `providers: [cuda, cpu]` falls back to the CPU.",
    ),
    "bad_config": Meaning(500, "The configuration is not valid.", "`edged check` shows every mistake."),
    "no_listener": Meaning(500, "A socket cannot be opened for listening.", "Does another edged run on this box?"),
    "no_daemon": Meaning(503, "No daemon answers on the socket.", "Is it running? `systemctl status edged`"),
    "broker": Meaning(503, "The broker cannot be reached or refused the connection.", "Check mqtt.url."),
}
