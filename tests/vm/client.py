"""A client of the service in the virtual machine: starts a kernel, asks it for 1+1, prints the answer. client.py CERTIFICATE"""

import json
import pathlib
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import gateway  # noqa: E402
import requests  # noqa: E402

URL, HEADERS = "https://localhost:8890", {"Authorization": "token " + "a" * 32}

answer = requests.post(f"{URL}/api/kernels", json={"name": "isolated"}, headers=HEADERS, verify=sys.argv[1], timeout=120)
print(answer.status_code, answer.text)
kernel = answer.json()["id"]
while (state := requests.get(f"{URL}/api/kernels/{kernel}", headers=HEADERS, verify=sys.argv[1], timeout=120).json())["execution_state"] == "starting":
    time.sleep(0.5)
print(json.dumps(state))
client = gateway.Socket.__new__(gateway.Socket)
client.v1, client.session = True, uuid.uuid4().hex
client.ws = gateway.websocket.create_connection(
    f"{URL.replace('https', 'wss')}/api/kernels/{kernel}/channels?session_id={client.session}",
    header=HEADERS, subprotocols=[gateway.V1], timeout=300, sslopt={"ca_certs": sys.argv[1]},
)  # fmt: skip
print(gateway.text_of(client.run("print(1 + 1)")))
