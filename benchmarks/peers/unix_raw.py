"""The least that a service in Python costs: a UNIX socket, frames of docs/fast.md, one thread with epoll.

unix_raw.py MODEL SOCKET

MODEL "-": the frame comes back as it is, which is the floor of the socket alone. It reads no more of a frame than it
has to: one tensor, its bytes at the end of each frame.
"""

import select
import socket
import struct
import sys
from pathlib import Path

import numpy as np

HEAD = struct.Struct("<IBBBBQII")
session = None
if sys.argv[1] != "-":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if "vnni" not in Path("/proc/cpuinfo").read_text():  # else int8 sums are cut off there: docs/adr/0007
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    shape = [1, *session.get_inputs()[0].shape[1:]]
    size, classes = 4 * int(np.prod(shape)), session.get_outputs()[0].shape[1]
    described = struct.pack("<BBHIBBHIII", 0, 0, 1, 17, 11, 2, 1, 4 * classes, 1, classes) + b"y" + bytes(7)


def answer(frame):
    number = HEAD.unpack_from(frame)[5]
    if session is None:
        return HEAD.pack(len(frame) - HEAD.size, 0xED, 0x81, 0, frame[7], number, 0, 0) + frame[HEAD.size :]
    x = np.frombuffer(frame, np.float32, size // 4, len(frame) - size).reshape(shape)
    body = described + session.run(None, {"x": x})[0].tobytes()
    return HEAD.pack(len(body), 0xED, 0x81, 0, 0, number, 0, 0) + body


server = socket.socket(socket.AF_UNIX)
Path(sys.argv[2]).unlink(missing_ok=True)  # of a run before
server.bind(sys.argv[2])
server.listen(128)
poll, clients, held = select.epoll(), {}, {}
poll.register(server, select.EPOLLIN)
while True:
    for descriptor, _ in poll.poll():
        if descriptor == server.fileno():
            client, _ = server.accept()
            clients[client.fileno()], held[client.fileno()] = client, b""
            poll.register(client, select.EPOLLIN)
            continue
        client = clients[descriptor]
        try:
            data = client.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            poll.unregister(client)
            clients.pop(descriptor).close()
            continue
        data = held[descriptor] + data
        while len(data) >= HEAD.size and len(data) >= (end := HEAD.size + HEAD.unpack_from(data)[0]):
            client.sendall(answer(data[:end]))
            data = data[end:]
        held[descriptor] = data
