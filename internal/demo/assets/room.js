"use strict";
// The control room: asks for the state twice a second and draws it, and sends what
// the buttons mean. Nothing moves but what has changed.

const token = document.querySelector("meta[name=token]").content;
const at = (id) => document.getElementById(id);
const number = (n) => n.toLocaleString("en");
const svgNamespace = "http://www.w3.org/2000/svg";
let state = null;

function count(n, noun) {
  return number(n) + " " + noun + (n === 1 ? "" : "s");
}

// set changes a text only when it is another one: readers of the screen, and the
// selection, notice every change.
function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function icon(element, name) {
  const href = "#i-" + name;
  if (element.getAttribute("href") !== href) element.setAttribute("href", href);
}

function offer(button, text, iconName, possible) {
  set(button.querySelector("span"), text);
  if (iconName) icon(button.querySelector("use"), iconName);
  button.setAttribute("aria-disabled", String(!possible));
}

// ── Drawing ────────────────────────────────────────────────────────────────

function showFigures() {
  const chats = state.chats;
  const requests = state.requests;
  set(at("f-cut"), number(chats.cut));
  at("f-cut").classList.toggle("cut", chats.cut > 0);
  set(at("f-open"), number(chats.open));
  set(at("f-wanted"), number(chats.wanted));
  set(at("f-moved"), number(chats.moved));
  set(at("f-rate"), number(Math.round(requests.pace.per_second)));
  set(at("f-failed"), number(requests.failed));
  at("f-failed").classList.toggle("cut", requests.failed > 0);
  set(at("f-total"), number(requests.total));
  const slow = requests.pace.p99_ms;
  set(at("f-p99"), slow < 100 ? slow.toFixed(1) : number(Math.round(slow)));
  set(at("f-applies"), number(state.apply.total));
}

function showVerdict() {
  const verdict = at("verdict");
  const cut = state.chats.cut;
  let text = "Not one chat was cut. Try to make Sluis cut one.";
  if (state.chats.open === 0 && state.chats.reconnecting === 0) text = "The visitors are coming.";
  if (state.servers.every((s) => !s.running)) text = "All three servers are stopped, so there is nothing left to balance.";
  if (cut > 0) text = (cut === 1 ? "Sluis has cut a chat" : "Sluis has cut " + number(cut) + " chats") + ", which it should not.";
  if (verdict.textContent !== text) {
    verdict.textContent = text;
    at("told").textContent = text;
  }
  verdict.classList.toggle("cut", cut > 0);
}

function since(seconds) {
  if (seconds < 100) return Math.round(seconds) + " s";
  return Math.round(seconds / 60) + " min";
}

// stateOf says a server's state: the mark, and the words.
function stateOf(server, chats) {
  if (!server.running && server.health !== "down") return ["check", "Stopped, not found out yet"];
  if (server.failing && server.health !== "down") return ["check", "Failing, not found out yet"];
  switch (server.health) {
    case "down": return ["down", "Down for " + since(server.since_s)];
    case "drain": return ["drain", chats === 0 ? "Drained, empty" : "Draining for " + since(server.since_s)];
    case "maint": return ["maint", "Maintenance"];
    case "check": return ["check", "Checking"];
    default: return ["up", "Up"];
  }
}

function showServer(server) {
  const chamber = document.querySelector('[data-server="' + server.name + '"]');
  if (chamber === null) return;
  const chats = state.chats.servers[server.name] || { open: 0, moved: 0 };
  const [mark, words] = stateOf(server, chats.open);
  const shown = chamber.querySelector("[data-state]");
  shown.className = "st st-" + mark;
  icon(shown.querySelector("use"), mark);
  set(shown.querySelector("span"), words);
  let load = count(chats.open, "chat") + ", " + count(Math.round(state.requests.servers[server.name] || 0), "request") + "/s";
  if (chats.moved > 0) load += ", " + number(chats.moved) + " of the chats moved here";
  if (!server.running && state.chats.reconnecting > 0) load = count(state.chats.reconnecting, "chat") + " on the way to another server";
  else if (mark === "down" && server.reason) load = server.reason;
  if (mark === "drain" && chats.open > 0) load += ". No new chats come; those that are here may finish";
  set(chamber.querySelector("[data-load]"), load);
  const [first, second] = chamber.querySelectorAll("button");
  const dead = !server.running;
  first.dataset.act = dead ? "start" : server.failing ? "recover" : "stop";
  offer(first, (dead ? "Start " : server.failing ? "Heal " : "Stop ") + server.name, dead || server.failing ? "play" : "stop", true);
  const out = server.health === "drain" || server.health === "maint";
  second.dataset.act = out ? "ready" : "drain";
  offer(second, (out ? "Take back " : "Drain ") + server.name, out ? "play" : "drain", out || server.health === "up");
  drawPool(chamber.querySelector(".pool"), chats, mark);
}

const boat = { width: 24, height: 16, hull: "h18l-4 7h-10z", cabin: "m10 0v-4h5v4z", flag: "m4 0v-6l5 2-4 2v2z" };

// drawPool draws a chamber: its level is the number of chats, each of them a boat.
function drawPool(pool, chats, mark) {
  pool.setAttribute("class", "pool " + mark);
  const width = pool.clientWidth;
  const height = pool.clientHeight;
  const across = Math.max(Math.floor((width - 20) / boat.width), 1);
  const down = Math.max(Math.floor((height - 18) / boat.height), 1);
  const each = Math.max(Math.ceil(chats.open / (across * down)), 1); // chats a boat, when there are too many
  const boats = Math.ceil(chats.open / each);
  const moved = Math.min(Math.ceil(chats.moved / each), boats);
  const rows = Math.ceil(boats / across);
  const level = boats === 0 ? height : Math.max(height - 12 - rows * boat.height, 4);
  const water = pool.querySelector(".water");
  water.setAttribute("y", level);
  water.setAttribute("height", height - level);
  pool.querySelector(".line").setAttribute("d", boats === 0 ? "" : "M0 " + level + "H" + width);
  pool.querySelector(".wall").setAttribute("d", "M2 0V" + (height - 2) + "H" + (width - 2) + "V0");
  const fleet = pool.querySelector(".fleet");
  while (fleet.children.length > boats) fleet.lastChild.remove();
  while (fleet.children.length < boats) fleet.append(document.createElementNS(svgNamespace, "path"));
  for (let i = 0; i < boats; i++) {
    const own = i < boats - moved;
    const x = 11 + (i % across) * boat.width;
    const y = level + 9 + Math.floor(i / across) * boat.height;
    const d = "M" + x + " " + y + boat.hull + (own ? boat.cabin : boat.flag);
    const path = fleet.children[i];
    if (path.getAttribute("d") !== d) path.setAttribute("d", d);
    const kind = own ? "boat" : "boat moved";
    if (path.getAttribute("class") !== kind) path.setAttribute("class", kind);
  }
}

function busiest() {
  const open = (s) => (state.chats.servers[s.name] || { open: 0 }).open;
  return state.servers.filter((s) => s.running).sort((a, b) => open(b) - open(a))[0];
}

function plural(text) {
  return text.replace(/\b1 chats/, "1 chat").replace(/\b1 failed requests/, "1 failed request");
}

function showActions() {
  const last = busiest();
  const stopped = state.servers.filter((s) => !s.running);
  if (last) {
    offer(at("stop"), "Stop " + last.name, "stop", true);
  } else {
    offer(at("stop"), "All are stopped", "stop", false);
  }
  const wave = state.chats.last_wave;
  if (stopped.length > 0 && wave.chats > 0) {
    set(at("stop-text"), plural(count(wave.chats, "chat") + " went on at " + Object.keys(wave.to).sort().join(" and ") + ", the last one after " + (wave.took_ms / 1000).toFixed(1) + " s. Start the server again when you have seen enough."));
  }
  const apply = state.apply;
  const bar = at("apply-progress");
  bar.hidden = !apply.running;
  bar.value = apply.done;
  const locked = state.lock_out.active;
  offer(at("apply"), apply.running ? "Applying " + apply.done + " of " + apply.of : "Apply " + bar.max + " changes", null, !apply.running && !locked);
  if (apply.problem) {
    set(at("apply-text"), "It ended after " + apply.done + ": " + apply.problem);
  } else if (apply.of > 0) {
    set(at("apply-text"), plural((apply.running ? "Now" : "Last time") + ": " + apply.done + " of " + apply.of + ", " + apply.cut + " chats cut, " + apply.failed + " failed requests, " + apply.mean_ms.toFixed(1) + " ms each, the slowest " + apply.slowest_ms.toFixed(1) + " ms."));
  }
  showLockOut(apply.running);
}

function showLockOut(busy) {
  const lock = state.lock_out;
  const bar = at("lock-progress");
  bar.hidden = !lock.active;
  bar.max = lock.seconds || 10;
  bar.value = lock.left_s;
  if (lock.active) {
    offer(at("lock"), "Return now (" + Math.ceil(lock.left_s) + " s left)", "lock", true);
    set(at("lock-text"), lock.reachable ? "The change is on its way." : lock.url + " doesn't answer any more. Nobody can confirm, so in " + Math.ceil(lock.left_s) + " s it is back.");
    return;
  }
  offer(at("lock"), "Lock me out", "lock", !busy);
  if (lock.problem) set(at("lock-text"), lock.problem);
  else if (lock.outcome) set(at("lock-text"), lock.outcome);
}

const marks = { ok: "ok", down: "down", pending: "pending", drain: "drain" };
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
let newest = 0;

// showStory adds what is new, on top.
function showStory() {
  const list = at("story");
  for (const line of state.story.filter((l) => l.number > newest).reverse()) {
    newest = line.number;
    const item = document.createElement("li");
    const time = document.createElement("time");
    const when = new Date(line.at);
    time.dateTime = line.at;
    time.textContent = clock.format(when) + "." + String(Math.floor(when.getMilliseconds() / 100));
    const word = document.createElement("span");
    const mark = marks[line.mark] || "ok";
    word.className = "st st-" + mark;
    const svg = document.createElementNS(svgNamespace, "svg");
    svg.setAttribute("class", "i");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS(svgNamespace, "use");
    use.setAttribute("href", "#i-" + mark);
    svg.append(use);
    const label = document.createElement("span");
    label.textContent = line.word;
    word.append(svg, label);
    const text = document.createElement("span");
    text.textContent = line.text;
    item.append(time, word, text);
    list.prepend(item);
    while (list.children.length > 100) list.lastChild.remove();
  }
}

function show() {
  showFigures();
  showVerdict();
  state.servers.forEach(showServer);
  showActions();
  showStory();
}

// ── Asking and doing ───────────────────────────────────────────────────────

function notice(text) {
  at("notice").hidden = text === "";
  set(at("notice-text"), text);
}

let gone = false;

async function refresh() {
  try {
    const answer = await fetch("/state", { signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(String(answer.status));
    state = await answer.json();
    if (gone) notice("");
    gone = false;
    show();
  } catch {
    if (!gone) {
      set(at("verdict"), "The demo doesn't answer any more.");
      notice("These are the last figures. Was it ended with Ctrl-C? Start it again with make run, and load this page anew at the address that it prints.");
    }
    gone = true;
  }
  setTimeout(refresh, document.hidden ? 2000 : 500);
}

async function press(path, told) {
  notice("");
  try {
    const answer = await fetch(path, { method: "POST", headers: { "X-Demo-Token": token }, signal: AbortSignal.timeout(15000) });
    const body = await answer.json();
    if (!answer.ok) {
      notice(body.problem);
      return;
    }
    state = body;
    set(at("told"), told);
    show();
  } catch {
    notice("That did not get through. Does the demo still run?");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button === null || state === null || button.getAttribute("aria-disabled") === "true") return;
  const words = button.textContent.trim();
  if (button.dataset.act) {
    const name = button.closest("[data-server]").dataset.server;
    press("/servers/" + encodeURIComponent(name) + "/" + button.dataset.act, words);
  } else if (button.id === "stop") {
    press("/servers/" + encodeURIComponent(busiest().name) + "/stop", words);
  } else if (button.id === "apply") {
    press("/apply", words);
  } else if (button.id === "lock") {
    press(state.lock_out.active ? "/return" : "/lock-out", words);
  } else if (button.classList.contains("copy")) {
    navigator.clipboard.writeText(button.closest(".line").querySelector("pre").textContent)
      .then(() => set(at("told"), "Copied"), () => notice("The browser doesn't let this page copy. Select the command instead."));
  }
});

addEventListener("resize", () => { if (state !== null) show(); });
refresh();
