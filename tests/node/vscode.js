/*
 * What VS Code's Jupyter extension asks of a server, with the library and in the way that it does
 * (vscode-jupyter: src/standalone/userJupyterServer, src/kernels/jupyter): the two questions without
 * a token that tell it what kind of server this is, `@jupyterlab/services` with node-fetch and ws,
 * the token in a header of requests and in the address of the WebSocket, a session per notebook.
 *
 *   node vscode.js URL TOKEN KERNELSPEC [CERTIFICATE OF AN AUTHORITY]
 *
 * Prints a line of JSON: every request with its status, and what the kernel said.
 */
"use strict";

const fs = require("fs");
const https = require("https");
const nodeFetch = require("node-fetch");
const WebSocket = require("ws");
const { KernelAPI, KernelManager, KernelSpecManager, ServerConnection, SessionManager } = require("@jupyterlab/services");

const [url, token, kernelspec, authority] = process.argv.slice(2);
const ca = authority ? fs.readFileSync(authority) : undefined;
const agent = url.startsWith("https") ? new https.Agent({ ca }) : undefined;
const requests = [];
const sockets = [];

async function fetch(input, init) {
    const request = new nodeFetch.Request(input, { ...init, agent });
    const answer = await nodeFetch(request);
    requests.push([request.method, new URL(request.url).pathname.replace(/[0-9a-f-]{36}/g, "ID"), answer.status]);
    return answer;
}

class Socket extends WebSocket {
    constructor(address, protocols) {
        super(address, protocols, { ca });
        const asked = new URL(address);
        const seen = { token: asked.searchParams.get("token") === token, session: asked.searchParams.has("session_id"), offered: [].concat(protocols ?? []) };
        sockets.push(seen);
        this.on("open", () => {
            seen.protocol = this.protocol;
            this.ping();
        });
        this.on("pong", () => {
            seen.pong = true;
        });
    }
}

function settings() {
    return ServerConnection.makeSettings({
        baseUrl: url,
        appUrl: "",
        wsUrl: url.replace("http", "ws"),
        token,
        init: { cache: "no-store", credentials: "same-origin" },
        fetch,
        Request: nodeFetch.Request,
        Headers: nodeFetch.Headers,
        WebSocket: Socket,
    });
}

function managers() {
    const serverSettings = settings();
    const kernelManager = new KernelManager({ serverSettings });
    return {
        serverSettings,
        kernelManager,
        kernelSpecManager: new KernelSpecManager({ serverSettings }),
        sessionManager: new SessionManager({ serverSettings, kernelManager }),
    };
}

async function until(signal, wanted) {
    await new Promise((resolve) => {
        const look = () => {
            if (wanted()) {
                signal.disconnect(look);
                resolve();
            }
        };
        signal.connect(look);
        look();
    });
}

/** The outputs of a cell; `input` answers what it asks. */
async function run(kernel, code, input, heard) {
    const outputs = [];
    const future = kernel.requestExecute({ code, allow_stdin: input !== undefined });
    future.onIOPub = (message) => {
        heard?.(message.content.text);
        outputs.push(message.content.text ?? message.content.data?.["text/plain"] ?? message.content.ename);
    };
    future.onStdin = () => {
        future.sendInputReply({ status: "ok", value: input }, undefined);
    };
    const reply = await future.done;
    return { status: reply.content.status, outputs: outputs.filter((output) => output !== undefined) };
}

async function main() {
    // Which kind of server this is, before the token is used.
    const hub = (await fetch(`${url}hub/api`, { redirect: "manual", headers: { Connection: "keep-alive" } })).status === 200;
    const password = (await fetch(`${url}tree?`, { redirect: "manual", headers: { Connection: "keep-alive" } })).status !== 200;

    const { serverSettings, kernelManager, kernelSpecManager, sessionManager } = managers();
    await sessionManager.ready;
    await kernelSpecManager.refreshSpecs();
    const specs = Object.keys(kernelSpecManager.specs.kernelspecs);
    const before = (await KernelAPI.listRunning(serverSettings)).length;

    const session = await sessionManager.startNew(
        { path: "analysis-jvsc-1.ipynb", kernel: { name: kernelspec }, name: "analysis-1.ipynb", type: "notebook" },
        { kernelConnectionOptions: { handleComms: true } },
    );
    const kernel = session.kernel;
    await until(kernel.statusChanged, () => kernel.status === "idle");
    const said = { info: (await kernel.info).language_info.name };
    said.sum = await run(kernel, "1 + 1");
    said.input = await run(kernel, "print('answer:', input('? '))", "42");
    let sleeping; // interrupted when it has begun: before, the kernel has nothing to interrupt
    await new Promise((begun) => {
        sleeping = run(kernel, "print('begun', flush=True)\nimport time; time.sleep(1000)", undefined, (text) => text && begun());
    });
    await kernel.interrupt();
    said.interrupted = (await sleeping).status;
    await kernel.restart();
    said.restarted = await run(kernel, "'x' in globals()");

    // Another window, which finds the kernel that runs.
    const other = managers();
    await other.sessionManager.ready;
    await other.sessionManager.refreshRunning();
    const [model] = [...other.sessionManager.running()];
    const same = other.sessionManager.connectTo({ model, clientId: "another-window", username: "vscode", kernelConnectionOptions: { handleComms: true } });
    await until(same.kernel.connectionStatusChanged, () => same.kernel.connectionStatus === "connected");
    said.other = await run(same.kernel, "6 * 7");
    await sessionManager.refreshRunning();
    await session.shutdown();
    const left = (await KernelAPI.listRunning(serverSettings)).length - before;
    console.log(JSON.stringify({ hub, password, specs, said, left, requests, sockets }));
    process.exit(0);
}

main().catch((error) => {
    console.error(error, JSON.stringify({ requests, sockets }));
    process.exit(1);
});
