"""gRPC's own Python client with bytes for messages, in a process of its own; prints what it got as JSON.

python plain_grpc.py TARGET METHOD MESSAGE-IN-HEX [--ca FILE] [--cert FILE] [--token TOKEN]
python plain_grpc.py TARGET METHOD MESSAGE-IN-HEX --load SECONDS --in-flight N [--pause S] [--bad MESSAGE-IN-HEX]:
    what came of all of them; with --bad every tenth call has that message
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import time
from pathlib import Path
from typing import Any

import grpc

SERVICE = "/inference.GRPCInferenceService/"


def channel(args: argparse.Namespace) -> Any:
    if not args.ca:
        return grpc.aio.insecure_channel(args.target)
    key = Path(args.cert).with_suffix(".key").read_bytes() if args.cert else None
    credentials = grpc.ssl_channel_credentials(
        Path(args.ca).read_bytes(), key, Path(args.cert).read_bytes() if args.cert else None
    )
    return grpc.aio.secure_channel(args.target, credentials, (("grpc.ssl_target_name_override", "localhost"),))


async def one(call: Any, args: argparse.Namespace, message: str = "") -> dict[str, Any]:
    metadata = (("authorization", f"Bearer {args.token}"),) if args.token else ()
    try:
        answer = await call(bytes.fromhex(message or args.message), metadata=metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        trailers = {name: value for name, value in error.trailing_metadata() if isinstance(value, str)}
        return {"status": error.code().name, "details": error.details(), "trailers": trailers}
    return {"status": "OK", "answer": answer.hex()}


async def load(call: Any, args: argparse.Namespace) -> dict[str, Any]:
    """`in_flight` callers, each one call after the other."""
    found: collections.Counter[str] = collections.Counter()
    answers: set[str] = set()
    end_s = time.monotonic() + args.load

    async def work() -> None:
        while time.monotonic() < end_s:
            found["sent"] += 1
            got = await one(call, args, args.bad if found["sent"] % 10 == 0 else "")
            found[got["status"]] += 1
            answers.add(got.get("answer", "")[:40])
            await asyncio.sleep(args.pause)

    await asyncio.gather(*(work() for _ in range(args.in_flight)))
    return {**found, "answers": sorted(answers)}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("method")
    parser.add_argument("message")
    for name in ("--ca", "--cert", "--token", "--bad"):
        parser.add_argument(name, default="")
    parser.add_argument("--load", type=float, default=0.0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--in-flight", type=int, default=8)
    args = parser.parse_args()
    async with channel(args) as opened:
        call = opened.unary_unary(args.method if args.method.startswith("/") else f"{SERVICE}{args.method}")
        print(json.dumps(await (load if args.load else one)(call, args)))  # noqa: T201  the test reads it


asyncio.run(main())
