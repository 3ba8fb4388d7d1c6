// What the monitor shows: tables, facts and notices. Values of runs come in as data and go into the
// page as text nodes only. An update changes the cells that differ and leaves the rest of the page
// alone, so that focus, scroll position and a text selection stay.

const ICONS = {
  completed: "✅", running: "🔄", failed: "❌", cancelled: "⏹️", queued: "⏳", paused: "⏸️",
};
const TONES = {
  completed: "green", running: "blue", failed: "red", cancelled: "gray", queued: "violet",
  paused: "yellow", retried: "orange", open: "yellow",
};

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// -- time -----------------------------------------------------------------------------------------

function span(seconds, ticks) {
  if (ticks && seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 0.9995) return `${Math.max(0, seconds * 1000).toFixed(0)} ms`;
  if (seconds < 59.995) return `${seconds.toFixed(2)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const two = (number) => String(number).padStart(2, "0");

function local(iso) {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return iso;
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

// The zone that local() writes times in, such as "Europe/Berlin (now UTC+1)".
function zone() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const ahead = -new Date().getTimezoneOffset();
  if (!ahead && name === "UTC") return name;
  const minutes = Math.abs(ahead) % 60 ? `:${two(Math.abs(ahead) % 60)}` : "";
  const offset = `UTC${ahead < 0 ? "-" : "+"}${Math.floor(Math.abs(ahead) / 60)}${minutes}`;
  return `${name} (now ${offset})`;
}

// -- cells: a kind makes the content of a cell from its value --------------------------------------

function pill(status, tone, icon) {
  const mark = make("span", { "aria-hidden": "true" }, icon ? `${icon} ` : "");
  return make("span", { class: `pill ${tone}` }, mark, status);
}

function bar(parts) {
  const track = make("div", { class: "track", "aria-hidden": "true" });
  for (const part of parts) {
    const piece = make("div", { class: `part ${TONES[part.tone] || "gray"}`, title: part.title });
    piece.style.left = `${part.from * 100}%`;
    piece.style.width = `max(3px, ${(part.to - part.from) * 100}%)`;
    track.append(piece);
  }
  return track;
}

const KINDS = {
  text: (value) => value,
  word: (value) => value,
  number: (value) => value,
  code: (value) => value,
  status: (value) => pill(value, TONES[value] || "gray", ICONS[value]),
  time: (value) => make("time", { datetime: value, title: value }, local(value)),
  zone,
  seconds: (value) => span(value),
  since: (value) => make("span", { class: "tick", "data-since": value }),
  bar,
};

function fill(cell, value, kind) {
  const state = JSON.stringify([kind, value]);
  if (cell._state === state) return;
  cell._state = state;
  cell.replaceChildren();
  cell.dataset.kind = kind;
  if (value === null || value === undefined || value === "") return;
  // A value may bring a kind of its own, and several parts stand side by side.
  for (const part of Array.isArray(value) && kind !== "bar" ? value : [value]) {
    const own = part && part.kind;
    const node = KINDS[own || kind](own ? part.value : part);
    if (cell.hasChildNodes()) cell.append(" ");
    cell.append(typeof node === "object" ? node : make("bdi", {}, String(node)));
  }
}

// -- layouts --------------------------------------------------------------------------------------

function table(root, data, open) {
  let body = root.querySelector("tbody");
  if (!body) {
    body = make("tbody");
    const scroll = make("div", { class: "scroll", tabindex: "0", role: "region" });
    scroll.append(make("table", {}, make("thead", {}, make("tr")), body));
    root.replaceChildren(scroll);
  }
  const scroll = root.querySelector(".scroll");
  scroll.setAttribute("aria-label", data.label);
  scroll.firstElementChild.setAttribute("aria-label", data.label);
  scroll.style.maxHeight = data.height ? `${data.height}px` : "";
  const columns = JSON.stringify(data.columns);
  if (root._columns !== columns) {
    root._columns = columns;
    const heads = data.columns.map((column) => make(
      "th", { scope: "col", class: `${column.kind} ${column.less ? "less" : ""}` }, column.label));
    root.querySelector("thead tr").replaceChildren(...heads);
    body.replaceChildren();
  }
  const known = new Map([...body.children].map((row) => [row._id, row]));
  let place = body.firstElementChild;
  for (const given of data.rows) {
    const row = known.get(given.id) || line(given, data);
    known.delete(given.id);
    if (row !== place) body.insertBefore(row, place);
    else place = place.nextElementSibling;
    update(row, given, data, open);
  }
  for (const row of known.values()) row.remove();
}

function line(given, data) {
  const row = make("tr");
  row._id = given.id;
  row.append(...data.columns.map((column) => make(
    "td", { class: `${column.kind} ${column.less ? "less" : ""}` })));
  return row;
}

function update(row, given, data, open) {
  const chosen = given.id === data.chosen;
  if (chosen) row.setAttribute("aria-current", "true");
  else row.removeAttribute("aria-current");
  given.cells.forEach((value, number) => {
    const cell = row.children[number];
    const inner = data.opens && number === 0 ? (cell.firstElementChild || opener(cell)) : cell;
    fill(inner, value, data.columns[number].kind);
  });
  if (data.opens) {
    row.classList.add("opens");
    row.querySelector("button").setAttribute("aria-label", `${data.opens} ${given.name || ""}`);
    row.querySelector("button").setAttribute("aria-pressed", String(chosen));
    row.onclick = () => {
      if (!String(window.getSelection())) open(given.id);
    };
  }
}

function opener(cell) {
  const button = make("button", { type: "button" });
  cell.append(button);
  return button;
}

function facts(root, data) {
  let list = root.querySelector("dl");
  if (!list) root.replaceChildren(list = make("dl"));
  list.setAttribute("aria-label", data.label);
  const known = new Map([...list.children].map((pair) => [pair._id, pair]));
  for (const [name, kind, value] of data.facts) {
    const pair = known.get(name) || make("div", {}, make("dt", {}, name), make("dd"));
    pair._id = name;
    known.delete(name);
    list.append(pair);
    fill(pair.querySelector("dd"), value, kind);
  }
  for (const pair of known.values()) pair.remove();
}

function notice(root, data) {
  const state = JSON.stringify(data);
  if (root._state === state) return;
  root._state = state;
  const box = make("div", { class: `notice ${data.tone}`, role: data.role });
  if (data.title) box.append(make("strong", {}, data.title));
  for (const text of data.text) box.append(make("p", {}, make("bdi", {}, text)));
  root.replaceChildren(box);
}

const LAYOUTS = { table, facts, notice };

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  let root = parentElement.querySelector(".root");
  if (!root) {
    root = make("div", { class: "root" });
    parentElement.append(root);
  }
  if (root._layout !== data.layout) {
    root._layout = data.layout;
    root.replaceChildren();
  }
  LAYOUTS[data.layout](root, data, (id) => setTriggerValue("open", id));
  const ahead = data.now ? new Date(data.now).getTime() - Date.now() : 0;
  root._tick = () => {
    for (const node of root.querySelectorAll(".tick")) {
      const began = new Date(node.dataset.since).getTime();
      node.textContent = span((Date.now() + ahead - began) / 1000, true);
    }
  };
  root._tick();
  if (!root._timer) root._timer = setInterval(() => root._tick(), 1000);
  return () => {
    clearInterval(root._timer);
    root._timer = null;
  };
}
