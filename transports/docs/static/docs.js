// Shows openapi.json and asyncapi.json of the gateway that serves this page, and sends requests to it.
// Texts of the documents and of replies are set as text, never as HTML.

const content = document.getElementById("content");
const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
const STREAMS = ["text/event-stream", "application/x-ndjson"];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else if (value !== false && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

// --- schemas as text --------------------------------------------------------------------------------------------------

function resolve(root, thing) {
  let found = thing;
  for (let hops = 0; found && found.$ref && hops < 10; hops++) {
    found = found.$ref.slice(2).split("/").reduce((at, key) => at?.[key.replaceAll("~1", "/")], root);
  }
  return found ?? {};
}

/** A schema as people read it, somewhat like a type of TypeScript. */
function shape(root, schema, indent = "", depth = 0) {
  const it = resolve(root, schema);
  if (depth > 6) return "…";
  if (it.const !== undefined) return JSON.stringify(it.const);
  if (it.enum) return it.enum.map((each) => JSON.stringify(each)).join(" | ");
  for (const key of ["anyOf", "oneOf"]) {
    if (it[key]) return [...new Set(it[key].map((each) => shape(root, each, indent, depth)))].join(" | ");
  }
  if (it.allOf) return it.allOf.map((each) => shape(root, each, indent, depth)).join(" & ");
  const types = [].concat(it.type ?? []);
  return types.map((type) => shapeOf(root, it, type, indent, depth)).join(" | ") || "any";
}

function shapeOf(root, it, type, indent, depth) {
  if (type === "array") return `[${shape(root, it.items ?? {}, indent, depth + 1)}, …]`;
  if (type === "object") {
    const deeper = `${indent}  `;
    const members = Object.entries(it.properties ?? {}).map(([name, each]) => {
      const mark = (it.required ?? []).includes(name) ? "" : "?";
      const note = each.description ? `  // ${each.description}` : "";
      return `${deeper}${name}${mark}: ${shape(root, each, deeper, depth + 1)}${note}`;
    });
    if (it.additionalProperties && typeof it.additionalProperties === "object") {
      members.push(`${deeper}[name]: ${shape(root, it.additionalProperties, deeper, depth + 1)}`);
    }
    return members.length ? `{\n${members.join("\n")}\n${indent}}` : "{}";
  }
  if (it.contentEncoding) return `${type} (${it.contentEncoding})`;
  return it.format ? `${type} (${it.format})` : type;
}

const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// --- one operation ----------------------------------------------------------------------------------------------------

function operation(root, path, method, told, item) {
  const summary = element(
    "summary", {},
    element("span", { class: `method ${method}` }, method.toUpperCase()),
    element("span", { class: "path" }, path),
    element("span", { class: "quiet" }, told.summary ?? ""),
  );
  const made = element("details", { class: "operation", id: told.operationId, "data-words": `${method} ${path} ${told.summary} ${told.tags}`.toLowerCase() }, summary);
  made.addEventListener("toggle", () => {
    if (made.open && made.children.length === 1) made.append(inside(root, path, method, told, item));
  });
  return made;
}

function inside(root, path, method, told, item) {
  const box = element("div", { class: "inside" });
  if (told.description) box.append(element("p", {}, told.description));
  const parameters = (told.parameters ?? []).map((each) => resolve(root, each));
  const fields = new Map();
  if (parameters.length) {
    box.append(element("h3", {}, "Parameters"));
    const table = element("table");
    for (const each of parameters) {
      const field = element("input", { name: each.name, "aria-label": each.name, placeholder: each.example ?? shape(root, each.schema ?? {}) });
      fields.set(each, field);
      table.append(element(
        "tr", {},
        element("td", { class: each.required ? "required" : "" }, each.name),
        element("td", {}, each.description ?? "", each.in === "query" ? null : element("span", { class: "quiet" }, ` (${each.in})`)),
        element("td", {}, field),
      ));
    }
    box.append(table);
  }
  const body = bodyForm(root, told, box);
  const accept = acceptForm(root, told, box);
  const send = element("button", { type: "button", class: "send" }, "Send");
  const stop = element("button", { type: "button", hidden: true }, "Stop");
  const command = element("pre", { class: "curl" });
  const reply = element("div", { class: "reply" });
  const request = () => build(path, method, fields, body, accept, item);
  const show = () => { command.textContent = curl(request()); };
  box.addEventListener("input", show);
  send.addEventListener("click", () => answer(request(), reply, stop));
  box.append(element("p", {}, send, " ", stop), command, reply);
  show();
  box.append(element("h3", {}, "Replies"), replies(root, told));
  return box;
}

function bodyForm(root, told, box) {
  const content = resolve(root, told.requestBody).content;
  if (!content) return null;
  const types = element("select", { "aria-label": "Content-Type" }, ...Object.keys(content).map((each) => element("option", {}, each)));
  const text = element("textarea", { "aria-label": "Body", spellcheck: "false" });
  const about = element("pre");
  const fill = () => {
    const entry = content[types.value];
    text.value = entry.example === undefined ? "" : pretty(entry.example);
    about.textContent = shape(root, entry.schema ?? {});
  };
  types.addEventListener("change", fill);
  fill();
  box.append(element("h3", {}, "Body"), types, text, about);
  return { types, text };
}

function acceptForm(root, told, box) {
  const kinds = new Set();
  for (const [status, reply] of Object.entries(told.responses ?? {})) {
    if (status < "300") Object.keys(resolve(root, reply).content ?? {}).forEach((each) => kinds.add(each));
  }
  if (kinds.size < 2) return [...kinds][0] ? { value: [...kinds][0] } : null;
  const select = element("select", { "aria-label": "Accept" }, ...[...kinds].map((each) => element("option", {}, each)));
  box.append(element("h3", {}, "Accept"), select);
  return select;
}

function replies(root, told) {
  const table = element("table");
  for (const [status, reply] of Object.entries(told.responses ?? {})) {
    const it = resolve(root, reply);
    const shapes = new Map();
    for (const [kind, entry] of Object.entries(it.content ?? {})) {
      const text = shape(root, entry.schema ?? {});
      shapes.set(text, [...(shapes.get(text) ?? []), kind]);
    }
    const cell = element("td", {});
    for (const line of (it.description ?? "").split("\n")) cell.append(line, element("br"));
    if (status < "400") {
      for (const [text, kinds] of shapes) cell.append(element("span", { class: "quiet" }, kinds.join(", ")), element("pre", {}, text));
    }
    table.append(element("tr", {}, element("td", {}, status), cell));
  }
  return table;
}

// --- trying it out ----------------------------------------------------------------------------------------------------

function build(path, method, fields, body, accept, item) {
  const query = new URLSearchParams();
  const headers = {};
  let target = path;
  for (const [told, field] of fields) {
    if (told.in === "path") target = target.replace(`{${told.name}}`, encodeURIComponent(field.value));
    else if (field.value !== "" && told.in === "query") query.set(told.name, field.value);
    else if (field.value !== "" && told.in === "header") headers[told.name] = field.value;
  }
  const authorization = document.getElementById("authorization").value;
  if (authorization) headers.Authorization = authorization;
  if (accept?.value) headers.Accept = accept.value;
  const made = { method: method.toUpperCase(), headers };
  if (body && body.text.value !== "") {
    headers["Content-Type"] = body.types.value;
    made.body = body.text.value;
  }
  const base = new URL(item.servers ? item.servers[0].url : ".", document.baseURI);
  const url = new URL(base.href.replace(/\/$/, "") + target + (query.size ? `?${query}` : ""));
  return { url, made };
}

function curl({ url, made }) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const parts = [`curl -X ${made.method} ${quoted(url.href)}`];
  for (const [name, value] of Object.entries(made.headers)) {
    parts.push(`-H ${quoted(name === "Authorization" ? "Authorization: …" : `${name}: ${value}`)}`);
  }
  if (made.body !== undefined) parts.push(`-d ${quoted(made.body)}`);
  return parts.join(" \\\n  ");
}

async function answer({ url, made }, reply, stop) {
  const aborting = new AbortController();
  const line = element("p", { class: "status" }, "…");
  const text = element("pre", { class: "body" });
  reply.replaceChildren(line, text);
  stop.hidden = false;
  stop.onclick = () => aborting.abort();
  const began = performance.now();
  try {
    // The browser keeps bodies of GETs to itself.
    if (made.method === "GET") delete made.body;
    const got = await fetch(url, { ...made, signal: aborting.signal, credentials: "same-origin", cache: "no-store" });
    line.textContent = `${got.status} ${got.statusText} · ${Math.round(performance.now() - began)} ms · ${got.headers.get("Content-Type") ?? "no body"}`;
    if (STREAMS.some((each) => got.headers.get("Content-Type")?.startsWith(each))) await follow(got, text);
    else text.textContent = indented(await got.text());
    for (const name of ["Location", "Allow", "Retry-After", "Warning", "X-Request-Id"]) {
      if (got.headers.has(name)) line.append(` · ${name}: ${got.headers.get(name)}`);
    }
  } catch (error) {
    line.textContent = error.name === "AbortError" ? `${line.textContent} · stopped` : `No reply: ${error.message}`;
  } finally {
    stop.hidden = true;
  }
}

async function follow(got, text) {
  const reader = got.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text.textContent = (text.textContent + value).slice(-100_000);
    text.scrollTop = text.scrollHeight;
  }
}

function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// --- sockets and streams ----------------------------------------------------------------------------------------------

function channel(root, name, told) {
  const socket = (resolve(root, told.servers?.[0]).protocol ?? "").startsWith("ws");
  const summary = element(
    "summary", {},
    element("span", { class: `method ${socket ? "ws" : "http"}` }, socket ? "SOCKET" : "EVENTS"),
    element("span", { class: "path" }, told.address),
    element("span", { class: "quiet" }, told.title ?? ""),
  );
  const made = element("details", { class: "operation", id: `channel-${name}`, "data-words": `socket stream ${told.address} ${told.title}`.toLowerCase() }, summary);
  made.addEventListener("toggle", () => {
    if (made.open && made.children.length === 1) made.append(insideChannel(root, name, told, socket));
  });
  return made;
}

function insideChannel(root, name, told, socket) {
  const box = element("div", { class: "inside" }, element("p", {}, told.description ?? ""));
  for (const each of Object.values(root.operations)) {
    if (!each.channel.$ref.endsWith(`/${name}`)) continue;
    box.append(element("h3", {}, each.action === "send" ? "The gateway sends" : "The gateway takes"));
    for (const reference of each.messages) {
      const message = resolve(root, resolve(root, reference));
      box.append(element("p", {}, element("b", {}, message.name), ` ${message.summary ?? ""}`));
      if (message.headers) box.append(element("span", { class: "quiet" }, "head"), element("pre", {}, shape(root, message.headers)));
      box.append(element("pre", {}, shape(root, message.payload)));
      for (const example of message.examples ?? []) {
        const head = example.headers ? JSON.stringify(example.headers) : "";
        box.append(element("span", { class: "quiet" }, "example"), element("pre", {}, head + (example.payload === undefined ? "" : pretty(example.payload))));
      }
    }
  }
  if (socket) box.append(connection(root, told));
  return box;
}

function connection(root, told) {
  const at = new URL(".", document.baseURI);
  at.protocol = at.protocol === "https:" ? "wss:" : "ws:";
  const url = element("input", { "aria-label": "URL", size: 70, value: at.href.replace(/\/$/, "") + told.address });
  const text = element("textarea", { "aria-label": "Message" });
  const log = element("pre", { class: "log" });
  const tell = (line) => { log.textContent = `${log.textContent}${line}\n`.slice(-100_000); log.scrollTop = log.scrollHeight; };
  let open = null;
  const connect = element("button", { type: "button", onclick: () => {
    if (open) return open.close();
    const authorization = document.getElementById("authorization").value;
    const proof = authorization && btoa(authorization).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    open = new WebSocket(url.value, proof ? ["kafka-gateway", `authorization.${proof}`] : []);
    open.onopen = () => { tell("— open"); connect.textContent = "Close"; };
    open.onmessage = (event) => tell(`< ${event.data}`);
    open.onclose = (event) => { tell(`— closed: ${event.code} ${event.reason}`); open = null; connect.textContent = "Connect"; };
  } }, "Connect");
  const send = element("button", { type: "button", onclick: () => { if (open) { open.send(text.value); tell(`> ${text.value}`); } } }, "Send");
  return element("div", {}, element("h3", {}, "Try it"), url, " ", connect, text, send, log);
}

// --- the page ---------------------------------------------------------------------------------------------------------

function find() {
  const words = document.getElementById("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of content.querySelectorAll("section")) {
    let shown = 0;
    for (const each of section.querySelectorAll("details.operation")) {
      each.hidden = !words.every((word) => each.dataset.words.includes(word));
      shown += each.hidden ? 0 : 1;
    }
    section.hidden = shown === 0;
  }
}

async function load(name) {
  const authorization = document.getElementById("authorization").value;
  const got = await fetch(name, { headers: authorization ? { Authorization: authorization } : {} });
  if (!got.ok) throw new Error(`${name}: ${got.status}`);
  return got.json();
}

async function start() {
  const [api, async_] = await Promise.all([load("openapi.json"), load("asyncapi.json")]);
  const sections = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      if (!item[method]) continue;
      const tag = item[method].tags?.[0] ?? "";
      if (!sections.has(tag)) sections.set(tag, element("section", {}, element("h2", {}, tag)));
      sections.get(tag).append(operation(api, path, method, item[method], item));
    }
  }
  const channels = Object.entries(async_.channels ?? {});
  const streams = element("section", {}, element("h2", {}, "Sockets and streams"), ...channels.map(([name, told]) => channel(async_, name, told)));
  const about = element("p", { class: "quiet" }, `${api.info.title} ${api.info.version}: ${api.info.description.split("\n\n")[0]}`);
  content.replaceChildren(about, ...[...sections.keys()].sort().map((tag) => sections.get(tag)), streams);
  const meant = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (meant) { meant.open = true; meant.scrollIntoView(); }
}

document.getElementById("find").addEventListener("input", find);
document.getElementById("authorization").addEventListener("change", () => content.children.length < 3 && start().catch(failed));

function failed(error) {
  content.replaceChildren(element("p", { id: "state" }, `The descriptions cannot be read (${error.message}). Where the gateway asks who you are, fill in Authorization.`));
}

start().catch(failed);
