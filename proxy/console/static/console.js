"use strict";
// What the console does beyond its pages: it follows the live tail, and keeps pages that show the present up to date.
// All data becomes text of nodes; markup in it is never parsed as such.

const MOST_ROWS = 200;
// Over HTTP/1.1 a browser has six connections to a host, for all its windows: two are left for pages.
const MOST_TAILS = 4;
const AGAIN = 15000, LOOK_FOR_A_PLACE = 2000;

const byId = (id) => document.getElementById(id);
const time = () => new Date().toLocaleTimeString();

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// --- The live tail ---

function followTail(section) {
  const [pause, state, said, rows] = ["tail-pause", "tail-state", "tail-said", "tail-rows"].map(byId);
  const address = new URL(section.dataset.events, location.href);
  let source = null, place = null, beginning = false, paused = false, shown = 0, skipped = 0, missed = 0, later = 0;

  const tell = (words) => { set(said, words.replace(/:$/, ".")); count(words); };
  function count(words) {
    const lost = missed ? `, ${missed} missed` : "";
    set(state, `${words} ${shown} new${lost}${skipped ? `, ${skipped} skipped while paused` : ""} (as of ${time()}).`);
  }
  const present = () => (paused ? "Paused:" : "Live:");

  function row(cells) {
    const made = document.createElement("tr");
    made.setAttribute("role", "row");
    for (const one of cells) {
      const short = one.number || one.text.length <= (one.text.includes(" ") ? 24 : 16);
      const cell = element("td", { className: [one.number && "number", short && "short"].filter(Boolean).join(" ") });
      cell.setAttribute("role", "cell");
      cell.dataset.label = one.name;
      const own = one.href.startsWith("/console/");
      const inner = own ? element("a", { href: one.href }) : document.createElement("span");
      inner.textContent = one.text;
      inner.className = one.tone;
      cell.append(inner);
      made.append(cell);
    }
    return made;
  }

  function add(made) {
    byId("tail-empty").hidden = true;
    rows.prepend(made);
    while (rows.rows.length > MOST_ROWS) rows.deleteRow(-1);
  }

  function note(words) {
    const cell = element("td", { colSpan: section.querySelectorAll("th").length, className: "warn", textContent: words });
    cell.setAttribute("role", "cell");
    const made = element("tr", { className: "gap" }, cell);
    made.setAttribute("role", "row");
    add(made);
  }

  function take(name, act) {
    source.addEventListener(name, (event) => {
      if (event.lastEventId) address.searchParams.set("after", event.lastEventId);
      act(JSON.parse(event.data));
      count(present());
    });
  }

  async function begin() {
    clearTimeout(later);
    if (source || beginning || document.hidden) return;
    beginning = true;
    const taken = await takePlace();
    beginning = false;
    if (document.hidden) { end(); return; }
    if (!taken) {
      tell(`Waiting: ${MOST_TAILS} other windows of this browser show live tails. Close or hide one of them:`);
      later = setTimeout(begin, LOOK_FOR_A_PLACE);
      return;
    }
    source = new EventSource(address);
    source.addEventListener("open", () => tell(present()));
    take("at", () => {});
    take("record", (record) => {
      if (paused) { skipped += 1; return; }
      shown += 1;
      add(row(record.cells));
    });
    take("gap", (gap) => {
      if (paused) { skipped += gap.records || 0; return; }
      missed += gap.records || 0;
      note(gap.text);
    });
    source.addEventListener("end", (event) => {
      // After a reload or a stop the browser connects again by itself.
      if (JSON.parse(event.data).why !== "session") return;
      end();
      tell("Ended: sign in again.");
    });
    source.addEventListener("error", () => {
      if (!source) return;
      if (source.readyState !== EventSource.CLOSED) { tell("Not connected, trying again:"); return; }
      end();
      refused();
    });
  }

  function end() {
    clearTimeout(later);
    if (source) source.close();
    source = null;
    leavePlace();
  }

  // The browser gives back the place of a window that is closed. Where it has no locks (plain HTTP to a host that is
  // not this machine), each tail has a place.
  async function takePlace() {
    if (!navigator.locks || place) return true;
    for (let number = 1; number <= MOST_TAILS; number += 1) if (await hold(`live tail ${number}`)) return true;
    return false;
  }

  const hold = (name) => new Promise((taken) => {
    navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      taken(lock !== null);
      return lock && new Promise((leave) => { place = leave; });
    }).catch(() => taken(true)); // as where there are no locks
  });

  function leavePlace() {
    if (place) place();
    place = null;
  }

  async function refused() {
    // The stream itself can't say why it was refused.
    const answer = await fetch(address.pathname.replace(/\/events$/, ".json") + location.search).catch(() => null);
    if (answer && answer.status === 403) { tell("Ended: sign in again."); return; }
    tell(answer && answer.ok ? "Too many live tails are open; trying again:" : "Not connected, trying again:");
    clearTimeout(later);
    later = setTimeout(begin, AGAIN);
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    set(pause, paused ? "Continue" : "Pause");
    if (!paused && skipped) {
      note(`${skipped} records were skipped while this page was paused.`);
      missed += skipped;
      skipped = 0;
    }
    tell(present());
  });
  // A tab that nobody sees holds no connection: browsers have six for a host.
  document.addEventListener("visibilitychange", () => (document.hidden ? end() : begin()));
  begin();
}

// --- Pages that show the present ---

const isTouched = (form) =>
  form.contains(document.activeElement) ||
  [...form.elements].some((one) => ("defaultValue" in one && one.value !== one.defaultValue) ||
    ("defaultChecked" in one && one.checked !== one.defaultChecked));

// Changes only what differs, so that focus, selection and scroll position stay.
function update(shown, fresh) {
  if (shown.isEqualNode(fresh) || (shown.tagName === "FORM" && isTouched(shown))) return;
  if (shown.nodeType !== fresh.nodeType || shown.nodeName !== fresh.nodeName) {
    if (!shown.contains(document.activeElement)) shown.replaceWith(document.importNode(fresh, true));
    return;
  }
  if (shown.nodeType !== Node.ELEMENT_NODE) { shown.nodeValue = fresh.nodeValue; return; }
  if (shown.id === "updates") return;
  const open = shown.nodeName === "DETAILS" && shown.open;
  for (const { name } of [...shown.attributes]) if (!fresh.hasAttribute(name)) shown.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  if (open) shown.open = true;
  const [old, now] = [[...shown.childNodes], [...fresh.childNodes]];
  now.forEach((node, at) => (at < old.length ? update(old[at], node) : shown.append(document.importNode(node, true))));
  old.slice(now.length).forEach((node) => { if (!node.contains(document.activeElement)) node.remove(); });
}

function keepUpToDate(bar) {
  const state = document.createElement("span");
  const said = element("span", { className: "unseen" });
  said.setAttribute("role", "status");
  const pause = element("button", { type: "button", textContent: "Pause updates" });
  let paused = false, ended = false, busy = false;
  bar.append(pause, " ", state, said);
  set(state, `Updated at ${time()}.`);

  async function again() {
    if (paused || ended || busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
      if (answer.redirected) { ended = true; set(said, "You are signed out."); set(state, "Ended: sign in again."); return; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.ok || !fresh.getElementById("updates")) throw new Error(`status ${answer.status}`);
      if (paused) return;
      update(byId("content"), fresh.getElementById("content"));
      set(said, document.querySelector(".lead")?.textContent ?? "");
      set(state, `Updated at ${time()}.`);
    } catch {
      set(said, "The proxy does not answer.");
      set(state, `The proxy does not answer: this is old. Last try at ${time()}.`);
    } finally {
      busy = false;
    }
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    set(pause, paused ? "Continue updates" : "Pause updates");
    set(state, paused ? `Paused at ${time()}.` : "Going on.");
    again();
  });
  document.addEventListener("visibilitychange", again);
  setInterval(again, Number(bar.dataset.seconds) * 1000);
}

if (byId("tail")) followTail(byId("tail"));
if (byId("updates")) keepUpToDate(byId("updates"));
