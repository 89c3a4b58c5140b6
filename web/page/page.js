/* The page of cellwall serve. What comes from kernels and logs becomes text, never markup. */
"use strict";
const $ = id => document.getElementById(id);
const base = location.pathname.replace(/\/[^/]*$/, "");
const LOOK_MS = 3000;
const BLOCKED = new Set(["blocked", "refused", "result", "failed", "lost", "skipped", "attempt"]);
let shown = null;
let timer = 0;

function make(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.dataset, dataset || {});
  node.append(...children);
  return node;
}
function say(text) { $("message").textContent = text; clearTimeout(say.timer); say.timer = setTimeout(() => { $("message").textContent = ""; }, 6000); }
function bytes(count) {
  for (const unit of ["B", "kB", "MB", "GB"]) { if (count < 1000 || unit === "GB") return `${count < 10 && unit !== "B" ? count.toFixed(1) : Math.round(count)} ${unit}`; count /= 1000; }
}
function since(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  return seconds < 60 ? "now" : seconds < 3600 ? `${Math.floor(seconds / 60)} min` : seconds < 86400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}
async function ask(path, options = {}) {
  const answer = await fetch(base + path, { credentials: "same-origin", cache: "no-store", ...options });
  if (answer.status === 401) { login(); throw new Error("log in first"); }
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message || answer.statusText);
  return answer.status === 204 ? null : answer.json();
}

function login() {
  clearInterval(timer); timer = 0; shown = null;
  for (const id of ["kernels", "detail", "areas", "leave"]) $(id).hidden = true;
  $("who").textContent = "";
  if ($("login").hidden) { $("login").hidden = false; $("token").focus(); }
}
async function begin() {
  try { await look(); } catch { return; }
  $("login").hidden = true;
  for (const id of ["kernels", "leave"]) $(id).hidden = false;
  if (!timer) timer = setInterval(() => { if (!document.hidden) look().catch(error => say(error.message)); }, LOOK_MS);
  areas().catch(() => { $("areas").hidden = true; });
}
$("login-form").addEventListener("submit", async event => {
  event.preventDefault();
  $("login-error").textContent = "";
  const answer = await fetch(`${base}/login`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: $("token").value.trim() }) });
  $("token").value = "";
  if (answer.ok) { await begin(); $("main").focus(); } else $("login-error").textContent = (await answer.json().catch(() => ({}))).message || answer.statusText;
});
$("leave").addEventListener("click", async () => { await fetch(`${base}/logout`, { method: "POST" }); login(); });

/* Kernels. Rows are kept and only changed, so that focus stays where it is. */
const rows = new Map();
function figure(name) { const value = make("dd"); return { box: make("div", {}, make("dt", { textContent: name }), value), value }; }
function row(kernel) {
  const state = make("span"), sub = make("div", { className: "sub" }), reason = make("div", { className: "sub" });
  const figures = ["Memory", "Processor", "Messages", "Blocked"].map(name => figure(name));
  const button = (text, order, kind) => make("button", { type: "button", className: kind || "", textContent: text, ariaLabel: `${text} ${kernel.name} of ${kernel.owner}, ${kernel.id.slice(0, 8)}`, onclick: () => act(kernel.id, order, text) });
  const item = make("li", {},
    make("div", {}, make("div", { className: "name" }, `${kernel.name} `, state), sub, reason),
    make("dl", { className: "figures" }, ...figures.map(one => one.box)),
    make("div", { className: "actions" },
      make("button", { type: "button", textContent: "Log", ariaLabel: `Log of ${kernel.name}, ${kernel.id.slice(0, 8)}`, onclick: () => show(kernel.id, kernel.name) }),
      button("Interrupt", "interrupt"), button("Restart", "restart"), button("Stop", "stop", "danger")));
  return { item, update(now) {
    state.className = `state ${now.execution_state}`; state.textContent = now.execution_state;
    sub.textContent = `${now.owner} · area ${now.area} · ${now.id.slice(0, 8)} · ${since(now.started)}${now.connections ? "" : " · nobody is connected"}`;
    reason.textContent = now.reason || "";
    const values = [bytes(now.memory), `${now.seconds.toFixed(1)} s`, `${now.messages_out} · ${bytes(now.bytes_out)}`, now.blocked ? `${now.blocked} · ${since(now.last_blocked)}` : "0"];
    figures.forEach((one, i) => { if (one.value.textContent !== values[i]) one.value.textContent = values[i]; });
    figures[3].box.className = now.blocked ? "bad" : "";
  } };
}
async function look() {
  const answer = await ask("/api/wall/kernels");
  $("who").textContent = answer.admin ? `${answer.user}, administrator` : answer.user;
  const most = answer.admin ? answer.max_kernels_all : answer.max_kernels;
  const summary = `${answer.kernels.length}${most ? ` of ${most}` : ""} running`;
  if ($("summary").textContent !== summary) $("summary").textContent = summary;
  $("empty").hidden = answer.kernels.length > 0;
  const ids = new Set(answer.kernels.map(kernel => kernel.id));
  for (const [id, one] of rows) if (!ids.has(id)) { one.item.remove(); rows.delete(id); }
  for (const kernel of answer.kernels) {
    if (!rows.has(kernel.id)) { const one = row(kernel); rows.set(kernel.id, one); $("list").append(one.item); }
    rows.get(kernel.id).update(kernel);
  }
  if (shown && !document.hidden) await lines();
}
async function act(id, order, text) {
  if (order !== "interrupt" && !confirm(`${text} this kernel? Its variables are lost.`)) return;
  try { await ask(`/api/wall/kernels/${id}/${order}`, { method: "POST" }); say(`${text}: done`); await look(); } catch (error) { say(error.message); }
}

/* The log of one kernel. */
function words(line) {
  const { seq, time, kernel, user, event, ...rest } = line;
  return Object.entries(rest).map(([key, value]) => `${key} ${typeof value === "string" ? (key === "sha256" ? value.slice(0, 12) : value) : JSON.stringify(value)}`).join("  ");
}
async function show(id, name) { shown = id; $("detail-title").textContent = `${name}, ${id.slice(0, 8)}`; $("words").value = ""; $("detail").hidden = false; await lines().catch(error => say(error.message)); $("detail").focus(); $("detail").scrollIntoView({ block: "start" }); }
async function lines() {
  const query = new URLSearchParams({ q: $("words").value, blocked: $("blocked").checked ? "1" : "" });
  const id = shown;
  const answer = await ask(`/api/wall/kernels/${id}/log?${query}`).catch(error => { if (shown === id) { shown = null; $("detail").hidden = true; } throw error; });
  if (shown !== id) return;
  const all = answer.lines || [];
  const mark = all.length ? `${all[0].seq}-${all.at(-1).seq}-${all.length}` : "";
  if ($("lines").dataset.mark === id + mark + query) return;
  $("lines").dataset.mark = id + mark + query;
  $("none").hidden = all.length > 0;
  $("lines").replaceChildren(...all.toReversed().map(line => make("tr", { className: BLOCKED.has(line.event) ? "blocked" : "" },
    make("td", { textContent: (line.time || "").slice(11, 19) }), make("td", { textContent: line.event }), make("td", { textContent: words(line) }))));
  const may = [];
  for (const line of all) {
    if (line.event === "launch") may.push(["Folder", line.folder], ["Command", (line.command || []).join(" ")], ["Policy", line.policy || "the default"]);
    if (line.event === "layers") may.push(["Layers", line.has], ["Not here", line.lacks], ["Each process", line.limits]);
    if (line.event === "limits") may.push(["All together", `${line.limits || ""} (${line.held_by || ""})`]);
  }
  if (may.length) $("may").replaceChildren(...[...new Map(may)].filter(([, value]) => value).flatMap(([key, value]) => [make("dt", { textContent: key }), make("dd", { textContent: value })]));
}
$("search").addEventListener("submit", event => event.preventDefault());
for (const id of ["words", "blocked"]) $(id).addEventListener("input", () => { clearTimeout(lines.timer); lines.timer = setTimeout(() => lines().catch(error => say(error.message)), 200); });
$("close").addEventListener("click", () => { shown = null; $("detail").hidden = true; $("main").focus(); });
document.addEventListener("keydown", event => { if (event.key === "Escape" && shown) $("close").click(); });

/* Staging areas. */
const place = (area, path) => `/api/areas/${encodeURIComponent(area)}/${path.split("/").map(encodeURIComponent).join("/")}`;
async function areas() {
  const answer = await ask("/api/areas");
  const names = answer.areas.map(area => area.name);
  if (!names.includes("default")) names.unshift("default");
  const before = $("area").value || "default";
  $("area").replaceChildren(...names.map(name => make("option", { textContent: name, value: name, selected: name === before })));
  $("areas").hidden = false;
  await files();
}
async function files() {
  const area = $("area").value;
  const answer = await ask(`/api/areas/${encodeURIComponent(area)}`);
  $("area-empty").hidden = answer.files.length > 0;
  $("files").replaceChildren(...answer.files.map(file => make("tr", {},
    make("td", {}, make("a", { href: base + place(area, file.path), textContent: file.path, download: "" })),
    make("td", { textContent: bytes(file.size) }), make("td", { textContent: file.modified.slice(0, 16).replace("T", " ") }),
    make("td", {}, make("button", { type: "button", className: "danger", textContent: "Remove", ariaLabel: `Remove ${file.path}`, onclick: async () => {
      if (!confirm(`Remove ${file.path}?`)) return;
      try { await ask(place(area, file.path), { method: "DELETE" }); await files(); } catch (error) { say(error.message); }
    } })))));
}
function put(area, file) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("PUT", base + place(area, `in/${file.name}`));
    request.upload.onprogress = event => { $("progress").value = event.total ? event.loaded / event.total : 0; };
    request.onload = () => (request.status < 300 ? done() : fail(new Error(`${file.name}: ${(() => { try { return JSON.parse(request.responseText).message; } catch { return request.statusText; } })()}`)));
    request.onerror = () => fail(new Error(`${file.name}: the connection ended`));
    request.send(file);
  });
}
async function upload(list) {
  $("progress").hidden = false;
  try { for (const file of list) { await put($("area").value, file); say(`${file.name} is there`); } } catch (error) { say(error.message); }
  $("progress").hidden = true;
  await areas().catch(error => say(error.message));
}
$("area").addEventListener("change", () => files().catch(error => say(error.message)));
$("file").addEventListener("change", () => { upload([...$("file").files]); $("file").value = ""; });
for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, event => { event.preventDefault(); $("drop").classList.add("over"); });
for (const kind of ["dragleave", "drop"]) $("drop").addEventListener(kind, event => { event.preventDefault(); $("drop").classList.remove("over"); });
$("drop").addEventListener("drop", event => upload([...event.dataTransfer.files]));

begin();
