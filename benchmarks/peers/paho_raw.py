"""The script that one writes by hand for MQTT: raw float32 in and out, a session with one thread that does not spin.

paho_raw.py MODEL PORT QOS IN OUT
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import paho.mqtt.client as mqtt

model, port, qos, topic_in, topic_out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
if "vnni" not in Path("/proc/cpuinfo").read_text():  # else int8 sums are cut off there: docs/adr/0007
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
shape = [1, *session.get_inputs()[0].shape[1:]]


def on_message(client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
    x = np.frombuffer(message.payload, np.float32).reshape(shape)
    client.publish(topic_out, session.run(None, {"x": x})[0].tobytes(), qos)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda *_: client.subscribe(topic_in, qos)
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_forever()
