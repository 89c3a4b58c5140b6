"""VS Code's Jupyter extension, as far as it can be had without VS Code: the library and the requests that it makes of a
server (tests/node/vscode.js), in Node.js. Run by `tests/run gateway`; CELLWALL_NODE is a directory with what
tests/node/package-lock.json names."""

import json
import os
import subprocess

import gateway
import harness
import pytest
import serving
from harness import ISOLATED


@pytest.mark.parametrize("scheme", ("http", "https"))
def test_vscode(site, scheme):
    authority = serving.make_authority(site.root / f"authority-{scheme}")
    options = ["--certificate", authority / "localhost.pem", "--private-key", authority / "localhost.key"] if scheme == "https" else []
    with serving.Server(site, *options, listen=(f"{scheme}://127.0.0.1:0",)) as server:
        url = server.url.replace("127.0.0.1", "localhost") + "/"
        command = ["node", "--dns-result-order=ipv4first", "vscode.js", url, serving.TOKENS["anna"], ISOLATED, *([authority / "ca.pem"] if options else [])]
        done = subprocess.run(
            [str(word) for word in command], cwd=os.environ["CELLWALL_NODE"], capture_output=True, text=True, timeout=100 * harness.PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr + server.log()
        seen = json.loads(done.stdout.splitlines()[-1])
        # No Hub, and no page of Jupyter's own: the token that was given is used, and no password asked for.
        assert not seen["hub"] and seen["password"]
        assert ISOLATED in seen["specs"]
        assert seen["said"] == {
            "info": "python",
            "sum": {"status": "ok", "outputs": ["2"]},
            "input": {"status": "ok", "outputs": ["answer: 42\n"]},
            "interrupted": "error",
            "restarted": {"status": "ok", "outputs": ["False"]},
            "other": {"status": "ok", "outputs": ["42"]},
        }
        assert seen["left"] == 0  # the session's end was the kernel's
        answered = {(method, path): status for method, path, status in seen["requests"]}
        wanted = {
            ("GET", "/api/kernelspecs"): 200,
            ("GET", "/api/kernels"): 200,
            ("GET", "/api/sessions"): 200,
            ("POST", "/api/sessions"): 201,
            ("POST", "/api/kernels/ID/interrupt"): 204,
            ("POST", "/api/kernels/ID/restart"): 200,
            ("DELETE", "/api/sessions/ID"): 204,
        }
        assert wanted.items() <= answered.items(), answered
        for method, path, status in seen["requests"]:
            assert path in ("/hub/api", "/tree") or status < 300, seen["requests"]
        for socket in seen["sockets"]:
            assert socket["token"] and socket["session"] and socket["offered"] == [gateway.V1] == [socket["protocol"]]
        assert seen["sockets"][0]["pong"] and len(seen["sockets"]) >= 2
        assert serving.TOKENS["anna"] not in server.log()
