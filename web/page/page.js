/* The page of cellwall serve. What comes from kernels and logs becomes text, never markup. */
"use strict";
const $ = id => document.getElementById(id);
const base = location.pathname.replace(/\/[^/]*$/, "");
const LOOK_MS = 3000;
const FILES_MS = 10000;
const ANSWER_MS = 15000;
const BLOCKED = new Set(["blocked", "refused", "result", "failed", "lost", "skipped", "attempt"]);
let shown = null;
let timer = 0;
let looking = null;

function make(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.dataset, dataset || {});
  node.append(...children);
  return node;
}
const sentence = text => text && text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
function say(text, bad = false) { $("message").textContent = text; $("message").className = bad ? "bad" : ""; clearTimeout(say.timer); say.timer = setTimeout(() => { $("message").textContent = ""; }, bad ? 15000 : 6000); }
const wrong = error => say(error.message, true);
const pairs = list => list.flatMap(([key, value]) => [make("dt", { textContent: key }), make("dd", { textContent: value })]);
function bytes(count) {
  for (const unit of ["B", "kB", "MB", "GB"]) { if (count < 1000 || unit === "GB") return `${count < 10 && unit !== "B" ? count.toFixed(1) : Math.round(count)}\u00a0${unit}`; count /= 1000; }
}
function since(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  return seconds < 60 ? "now" : seconds < 3600 ? `${Math.floor(seconds / 60)} min` : seconds < 86400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}
class Away extends Error {}
async function ask(path, options = {}) {
  const signal = options.method ? undefined : AbortSignal.timeout(ANSWER_MS); /* what changes something may take its time */
  const answer = await fetch(base + path, { credentials: "same-origin", cache: "no-store", signal, ...options }).catch(() => { throw new Away("The server does not answer."); });
  if (answer.status === 401) { login(); throw new Error("Log in first."); }
  if (!answer.ok) throw Object.assign(new Error(sentence((await answer.json().catch(() => ({}))).message || answer.statusText)), { status: answer.status });
  return answer.status === 204 ? null : answer.json();
}

function login() {
  clearInterval(timer); timer = 0; shown = null; $("message").textContent = "";
  for (const id of ["kernels", "detail", "areas", "leave"]) $(id).hidden = true;
  $("who").textContent = "";
  if ($("login").hidden) { $("login").hidden = false; $("token").focus(); }
}
async function begin() {
  try { await look(); } catch { return; }
  $("login").hidden = true;
  for (const id of ["kernels", "leave"]) $(id).hidden = false;
  if (!timer) timer = setInterval(() => { if (!document.hidden && !looking) looking = look().catch(wrong).finally(() => { looking = null; }); }, LOOK_MS);
  areas().catch(() => { $("areas").hidden = true; });
}
$("login-form").addEventListener("submit", async event => {
  event.preventDefault();
  $("login-error").textContent = "";
  const answer = await fetch(`${base}/login`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: $("token").value.trim() }) });
  $("token").value = "";
  if (answer.ok) { await begin(); $("main").focus(); } else $("login-error").textContent = sentence((await answer.json().catch(() => ({}))).message || answer.statusText);
});
$("leave").addEventListener("click", async () => { await fetch(`${base}/logout`, { method: "POST" }); login(); });

/* Kernels. Rows are kept and only changed, so that focus stays where it is. */
const rows = new Map(), past = new Map();
function figure(name) { const value = make("dd"), more = make("dd", { className: "sub" }); return { box: make("div", {}, make("dt", { textContent: name }), value, more), parts: [value, more] }; }
const ago = time => (since(time) === "now" ? "just now" : `${since(time)} ago`);
const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
function row(kernel) {
  const state = make("span"), owner = make("strong"), rest = make("span"), sub = make("div", { className: "sub" }, owner, rest), reason = make("div", { className: "sub reason" });
  const figures = ["Memory", "Processor", "Messages", "Blocked"].map(name => figure(name));
  const button = (text, order, kind) => make("button", { type: "button", className: kind || "", textContent: text, ariaLabel: `${text} ${kernel.name} of ${kernel.owner}, ${kernel.id.slice(0, 8)}`, onclick: () => act(kernel.id, order, text) });
  const log = make("button", { type: "button", textContent: "Details", ariaLabel: `Details and log of ${kernel.name} of ${kernel.owner}, ${kernel.id.slice(0, 8)}`, onclick: () => show(kernel.id, kernel.name) });
  const item = make("li", {},
    make("div", {}, make("div", { className: "name" }, `${kernel.name} `, state), sub, reason),
    make("dl", { className: "figures" }, ...figures.map(one => one.box)),
    make("div", { className: "actions" }, log,
      button("Interrupt", "interrupt"), button("Restart", "restart"), button("Stop", "stop", "danger")));
  return { item, log, update(now) {
    state.className = `state ${now.execution_state}`; state.textContent = now.execution_state;
    owner.textContent = now.owner;
    rest.textContent = `\u00a0· area ${now.area}\u00a0· ${now.id.slice(0, 8)}\u00a0· since ${when(now.started).textContent}${now.connections ? "" : "\u00a0· nobody is connected"}`;
    reason.textContent = sentence(now.reason || "");
    const values = [
      [bytes(now.memory), count(now.processes, "process", "processes")], [`${now.seconds.toFixed(1)} s`, now.restarts ? count(now.restarts, "restart") : ""],
      [`${now.messages_in} in`, `${now.messages_out} out, ${bytes(now.bytes_out)}`], [String(now.blocked), now.blocked ? ago(now.last_blocked) : ""]];
    figures.forEach((one, i) => one.parts.forEach((part, k) => { if (part.textContent !== values[i][k]) part.textContent = values[i][k]; }));
    figures[3].box.className = now.blocked ? "bad" : "";
  } };
}
/* One that has ended: what it did can be read still. */
function endedRow(kernel) {
  const log = make("button", { type: "button", textContent: "Details", ariaLabel: `Details and log of ${kernel.name} of ${kernel.owner}, ${kernel.id.slice(0, 8)}, which has ended`, onclick: () => show(kernel.id, `${kernel.name}, ended`) });
  const blocked = figure("Blocked");
  const times = [kernel.started, kernel.ended].map(time => when(time).textContent);
  const item = make("li", {},
    make("div", {}, make("div", { className: "name" }, `${kernel.name} `, make("span", { className: "state", textContent: "ended" })),
      make("div", { className: "sub" }, make("strong", { textContent: kernel.owner }), `\u00a0· area ${kernel.area}\u00a0· ${kernel.id.slice(0, 8)}\u00a0· ${times[0]} to ${times[1]}`),
      make("div", { className: "sub", textContent: sentence(kernel.reason) })),
    make("dl", { className: "figures" }, blocked.box), make("div", { className: "actions" }, log));
  return { item, log, update(now) {
    [String(now.blocked), now.blocked ? ago(now.last_blocked) : ""].forEach((text, i) => { if (blocked.parts[i].textContent !== text) blocked.parts[i].textContent = text; });
    blocked.box.className = now.blocked ? "bad" : "";
  } };
}
function list(kernels, known, place, makeRow) {
  const ids = new Set(kernels.map(kernel => kernel.id));
  for (const [id, one] of known) if (!ids.has(id)) { if (one.item.contains(document.activeElement)) $("main").focus(); one.item.remove(); known.delete(id); }
  kernels.forEach((kernel, i) => {
    if (!known.has(kernel.id)) { const one = makeRow(kernel); known.set(kernel.id, one); place.insertBefore(one.item, place.children[i] || null); }
    known.get(kernel.id).update(kernel);
  });
}
async function look() {
  const answer = await ask("/api/wall/kernels");
  $("who").textContent = answer.admin ? `${answer.user}, administrator` : answer.user;
  const most = answer.admin ? answer.max_kernels_all : answer.max_kernels;
  const summary = `${answer.kernels.length} running${most ? `, ${most} at the most` : ""}`;
  if ($("summary").textContent !== summary) $("summary").textContent = summary;
  $("empty").hidden = answer.kernels.length > 0;
  list(answer.kernels, rows, $("list"), row);
  list(answer.ended, past, $("ended"), endedRow);
  $("past").hidden = answer.ended.length === 0;
  const ended = `Ended: ${answer.ended.length}`;
  if ($("past-title").textContent !== ended) $("past-title").textContent = ended;
  if (shown && !document.hidden) await lines();
  if (!$("areas").hidden && Date.now() - files.looked > FILES_MS) await files();
}
async function act(id, order, text) {
  if (order !== "interrupt" && !confirm(`${text} this kernel? Its variables are lost.`)) return;
  try { await ask(`/api/wall/kernels/${id}/${order}`, { method: "POST" }); say(`${text}: done`); await look(); } catch (error) { wrong(error); }
}

/* One kernel: what it may do, and its log. */
const READABLE = /\b(\d{4,}) bytes/g;
const human = text => String(text || "").replace(READABLE, (all, count) => bytes(Number(count)));
function may(answer) {
  const policy = answer.policy;
  if (!answer.walled) return [["No wall", "The operator lets this kernel run without one: it can do what the server's account can."]];
  if (!policy) return [["Policy", "Its file cannot be read now."]];
  const { stage, resources, outputs } = policy, list = values => values.map(value => (typeof value === "string" ? value : value.path)).join(", ");
  return [
    ["Network", "None"],
    ["Reads", ["staging/in", list(stage.in || []), "its Python environment", policy.python || ""].filter(Boolean).join(", ")],
    ["Writes", `Its own /work; results of up to ${stage.out_limit} and ${stage.out_files.toLocaleString("en")} files come out to staging/out`],
    ["Memory", resources.memory ? `${resources.memory}${String(resources.memory).endsWith("%") ? " of the machine's" : ""}` : "No limit"], ["Processors", resources.cpus ? String(resources.cpus) : "All"],
    ["Disk", resources.disk ? String(resources.disk) : "No limit"], ["Processes", resources.pids.toLocaleString("en")],
    ["Outputs", { static: "Static: no script runs", interactive: "Interactive: scripts run in frames of their own", off: "Not looked at" }[outputs?.mode] || outputs?.mode || ""],
    ["Ends", resources.idle_timeout ? `When idle for ${resources.idle_timeout}` : "When it is stopped, or the server culls it"],
  ];
}
function held(all) {
  const found = [];
  for (const line of all) {
    if (line.event === "launch") found.push(["Folder", line.folder], ["Command", (line.command || []).join(" ")], ["Policy", line.policy || "The default"]);
    if (line.event === "layers") found.push(["Layers", (line.has || "").replaceAll(" ", ", ")], ["Not here", line.lacks], ["Each process", human(line.limits)]);
    if (line.event === "limits") found.push(["All together", `${human(line.limits)}${line.held_by ? ` (by ${line.held_by})` : ""}`]);
  }
  return [...new Map(found)].filter(([, value]) => value);
}
function words(line) {
  const { seq, time, kernel, user, event, reason, ...rest } = line;
  const parts = reason ? human(reason).split(/`([^`]*)`/).map((part, index) => index % 2 ? make("code", { textContent: part }) : part) : [];
  for (const [key, value] of Object.entries(rest)) {
    const text = Array.isArray(value) ? value.join(" ") : typeof value === "string" ? (key === "sha256" ? value.slice(0, 12) : human(value)) : JSON.stringify(value);
    if (parts.length) parts.push(" ");
    parts.push(make("span", { className: "quiet", textContent: `${key} ` }), text, " ");
  }
  return parts;
}
function when(time) {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return make("time", { dateTime: time || "", title: time || "", textContent: isNaN(date) ? "" : today ? date.toLocaleTimeString("en-GB") : `${date.toLocaleDateString("sv")} ${date.toLocaleTimeString("en-GB")}` });
}
const cell = (properties, ...children) => { const node = make("td", properties, ...children); node.setAttribute("role", "cell"); return node; };
const tableRow = (properties, ...cells) => { const node = make("tr", properties, ...cells); node.setAttribute("role", "row"); return node; };
async function show(id, name) {
  shown = id; $("detail-title").textContent = `${name}, ${id.slice(0, 8)}`; $("words").value = ""; $("blocked").checked = false;
  $("may").replaceChildren(); $("held").replaceChildren(); $("lines").replaceChildren(); $("lines").dataset.mark = ""; $("detail").hidden = false;
  try { const answer = await ask(`/api/wall/kernels/${id}/policy`); if (shown === id) $("may").replaceChildren(...pairs(may(answer))); await lines(); } catch (error) { wrong(error); }
  if (shown === id) { $("detail").focus(); $("detail").scrollIntoView({ block: "start" }); }
}
function hide() {
  const opener = (rows.get(shown) || past.get(shown))?.log;
  shown = null;
  const inside = $("detail").contains(document.activeElement);
  $("detail").hidden = true;
  if (inside) (opener?.checkVisibility() ? opener : $("main")).focus();
}
/* Of what is shown: the lines that came so far, and where they end. */
const MOST = 300;
let read = {};
async function lines() {
  const query = new URLSearchParams({ q: $("words").value, blocked: $("blocked").checked ? "1" : "" });
  const id = shown, key = id + query;
  if (read.key !== key) read = { key, until: "", all: [] };
  const mine = read, until = mine.until;
  lines.stop?.abort(); /* what is asked now takes its place */
  const stop = lines.stop = new AbortController(), late = setTimeout(() => stop.abort(), ANSWER_MS);
  const answer = await ask(`/api/wall/kernels/${id}/log?${query}&since=${until}`, { signal: stop.signal }).catch(error => {
    if (lines.stop !== stop) return null;
    if (error.status === 404 && shown === id) hide();
    throw error;
  }).finally(() => clearTimeout(late));
  if (!answer || shown !== id || read !== mine || mine.until !== until) return;
  const all = mine.all = [...mine.all, ...answer.lines].slice(-MOST);
  mine.until = answer.until;
  const mark = key + answer.until;
  if ($("lines").dataset.mark === mark) return;
  $("lines").dataset.mark = mark;
  $("none").hidden = all.length > 0;
  $("log").hidden = all.length === 0;
  $("lines").replaceChildren(...all.toReversed().map(line => tableRow({ className: BLOCKED.has(line.event) ? "blocked" : "" }, cell({}, when(line.time)), cell({ textContent: line.event }), cell({}, ...words(line)))));
  const how = held(all);
  if (how.length && !$("words").value && !$("blocked").checked) $("held").replaceChildren(...pairs(how));
}
$("search").addEventListener("submit", event => event.preventDefault());
for (const id of ["words", "blocked"]) $(id).addEventListener("input", () => { clearTimeout(lines.timer); lines.timer = setTimeout(() => lines().catch(wrong), 200); });
$("close").addEventListener("click", hide);
document.addEventListener("keydown", event => { if (event.key === "Escape" && shown) hide(); });

/* Staging areas. */
const place = (area, path) => `/api/areas/${encodeURIComponent(area)}/${path.split("/").map(encodeURIComponent).join("/")}`;
async function areas() {
  const answer = await ask("/api/areas");
  const names = answer.areas.map(area => area.name);
  if (!names.includes("default")) names.unshift("default");
  const before = $("area").value || "default";
  $("area").replaceChildren(...names.map(name => make("option", { textContent: name, value: name, selected: name === before })));
  await files();
  $("areas").hidden = false;
}
async function remove(area, path) {
  if (!confirm(`Remove ${path}?`)) return;
  try { await ask(place(area, path), { method: "DELETE" }); await files(); $("area").focus(); say(`${path} is removed`); } catch (error) { wrong(error); }
}
/* Rows that did not change stay, so that focus stays where it is. */
async function files() {
  const area = $("area").value;
  files.looked = Date.now();
  const answer = await ask(`/api/areas/${encodeURIComponent(area)}`);
  if ($("area").value !== area) return;
  const before = new Map([...$("files").children].map(node => [node.dataset.mark, node]));
  $("area-empty").hidden = answer.files.length > 0;
  $("area-files").hidden = answer.files.length === 0;
  const sorted = answer.files.sort((one, other) => (one.path < other.path ? -1 : 1));
  const now = sorted.map(file => {
    const mark = JSON.stringify([area, file]);
    return before.get(mark) || tableRow({ dataset: { mark } },
      cell({}, make("a", { href: base + place(area, file.path), textContent: file.path, download: "" })),
      cell({ textContent: bytes(file.size) }), cell({}, when(file.modified)),
      cell({}, make("button", { type: "button", className: "danger", textContent: "Remove", ariaLabel: `Remove ${file.path}`, onclick: () => remove(area, file.path) })));
  });
  if (now.length !== before.size || now.some((node, i) => node !== $("files").children[i])) {
    const focused = document.activeElement;
    $("files").replaceChildren(...now);
    if (now.some(node => node.contains(focused))) focused.focus();
  }
}

/* Uploads, one after the other. One that was cut off goes on where it ended, by itself or when the same file is chosen again. */
const TRIES = 7, STALLED_MS = 30000, ENDS = 65536;
let sending = Promise.resolve(), request = null, halted = false, wake = null;
class Cut extends Error {}
const wait = ms => new Promise(done => { wake = done; setTimeout(done, ms); });
function progress(file, done) {
  $("progress").value = file.size ? done / file.size : 1;
  $("sent").textContent = `${file.name}: ${bytes(done)} of ${bytes(file.size)}`;
}
/* The same when a file is chosen again: another of its name, size and time is told apart by its beginning and end. A page that came in
   the clear from another host has no digests: there each choice is a new one. */
async function uploadId(file) {
  if (!crypto.subtle) return hex(crypto.getRandomValues(new Uint8Array(16)));
  const parts = [`${file.size} ${file.lastModified} `, file.slice(0, ENDS), file.slice(Math.max(0, file.size - ENDS))];
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer())));
}
const hex = digest => [...digest].map(byte => byte.toString(16).padStart(2, "0")).join("");
const again = crypto.subtle ? " Choose it again to go on." : "";
/* The bytes from `offset` on. */
function put(path, file, offset) {
  return new Promise((done, fail) => {
    const cut = () => fail(halted ? new Error(`${file.name} was stopped.${again}`) : new Cut(`${file.name}: the connection ended.${again}`));
    let stalled = 0;
    const moved = () => { clearTimeout(stalled); stalled = setTimeout(() => request?.abort(), STALLED_MS); };
    request = new XMLHttpRequest();
    request.open("PUT", path);
    if (file.size) request.setRequestHeader("Content-Range", `bytes ${offset}-${file.size - 1}/${file.size}`);
    request.upload.onprogress = event => { moved(); progress(file, offset + event.loaded); };
    request.onload = () => {
      if (request.status === 401) login();
      if (request.status === 201) done();
      else if (request.status === 202 || request.status === 416 || request.status >= 502 && request.status <= 504) cut();
      else fail(new Error(`${file.name}: ${(() => { try { return JSON.parse(request.responseText).message; } catch { return request.statusText; } })()}`));
    };
    request.onloadend = () => { clearTimeout(stalled); request = null; };
    request.onerror = request.onabort = cut;
    moved();
    request.send(file.slice(offset));
  });
}
async function send(area, file) {
  const name = `in/${file.name}`, id = `?upload=${await uploadId(file)}`;
  for (let tries = 0, most = 0; ;) {
    try {
      const there = (await ask(`/api/uploads${place(area, name).slice("/api/areas".length)}${id}`)).offset;
      const offset = Math.min(there, Math.max(0, file.size - 1)); /* a part has one byte at least */
      if (offset > most) { most = offset; tries = 0; }
      progress(file, offset);
      return await put(base + place(area, name) + id, file, offset);
    } catch (error) {
      if (!(error instanceof Cut || error instanceof Away) || halted || ++tries > TRIES) throw error;
      $("progress").removeAttribute("value"); /* how much of it arrived is not known */
      $("sent").textContent = `${file.name}: the connection ended, trying again`;
      await wait(250 * 2 ** tries);
      if (halted) throw new Error(`${file.name} was stopped.${again}`);
    }
  }
}
async function upload(area, list) {
  halted = false;
  $("sending").hidden = false;
  try { for (const file of list) { await send(area, file); say(`${file.name} is there`); } } catch (error) { wrong(error); }
  if ($("sending").contains(document.activeElement)) $("file").focus();
  $("sending").hidden = true;
  await areas().catch(() => 0);
}
function take(list) { const area = $("area").value; sending = sending.then(() => upload(area, list)); }
$("halt").addEventListener("click", () => { halted = true; wake?.(); request?.abort(); });
addEventListener("online", () => wake?.());
$("area").addEventListener("change", () => files().catch(wrong));
$("file").addEventListener("change", () => { take([...$("file").files]); $("file").value = ""; });
for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, () => $("drop").classList.add("over"));
$("drop").addEventListener("dragleave", event => { if (!$("drop").contains(event.relatedTarget)) $("drop").classList.remove("over"); });
$("drop").addEventListener("drop", event => {
  $("drop").classList.remove("over");
  const folders = new Set([...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(entry => entry?.isDirectory).map(entry => entry.name));
  if (folders.size) say(`${[...folders].join(", ")}: a folder cannot be dropped, its files can`, true);
  take([...event.dataTransfer.files].filter(file => !folders.has(file.name)));
});
/* What is dropped beside it would be opened in the place of this page. */
for (const kind of ["dragenter", "dragover", "drop"]) document.addEventListener(kind, event => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); });
/* A file that is dragged out of the list becomes one where it is dropped, in browsers that can. */
$("files").addEventListener("dragstart", event => {
  const link = event.target.closest?.("a");
  if (link) event.dataTransfer.setData("DownloadURL", `application/octet-stream:${link.textContent.split("/").pop().replaceAll(":", "_")}:${link.href}`);
});

begin();
