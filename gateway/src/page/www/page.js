// The page of the box: asks every two seconds, shows words from words.json, never builds markup from text.
"use strict";

const EVERY = 2000;
const SLOW = 10000;
const find = (id) => document.getElementById(id);
let words = {};
let zone;
let me = null;
let tab = "status";
let touched = true;
let lastHeard = 0;
let shownSignals = "";

/** A text in Chinese with English beside; {n} are filled in. */
function text(code, language, fill) {
  const word = words[code];
  let out = word ? word[language] : code;
  for (const [name, value] of Object.entries(fill || {})) {
    out = out.replaceAll("{" + name + "}", value);
  }
  return out;
}

function say(code, fill) {
  const box = document.createDocumentFragment();
  box.append(text(code, "zh", fill));
  const english = make("span", "en", text(code, "en", fill));
  english.lang = "en";
  box.append(english);
  return box;
}

function make(tag, name, ...inner) {
  const element = document.createElement(tag);
  if (name) {
    element.className = name;
  }
  element.append(...inner);
  return element;
}

function put(id, ...inner) {
  find(id).replaceChildren(...inner);
}

/** The clock at the centre. */
function at(millis) {
  const when = new Date(millis);
  const day = (date) => date.toLocaleDateString("zh-CN", { timeZone: zone });
  const today = day(when) === day(new Date());
  const style = { timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
  return (today ? "" : day(when) + " ") + when.toLocaleTimeString("zh-CN", style);
}

/** How long ago, by the box's clock. */
function ago(millis, now) {
  const s = Math.max(0, Math.round((now - millis) / 1000));
  const [code, n] = s < 60 ? ["ago_s", s] : s < 3600 ? ["ago_m", Math.floor(s / 60)]
    : s < 86400 ? ["ago_h", Math.floor(s / 3600)] : ["ago_d", Math.floor(s / 86400)];
  return say(code, { n });
}

async function ask(path, body) {
  const headers = {};
  if (touched) {
    headers["x-antuo-touch"] = "1";
    touched = false;
  }
  if (body !== undefined) {
    headers["content-type"] = "application/json";
  }
  const method = body === undefined ? "GET" : "POST";
  const within = AbortSignal.timeout(8000);
  const answer = await fetch(path, { method, headers, body, signal: within });
  lastHeard = Date.now();
  const json = answer.status === 204 ? {} : await answer.json();
  if (answer.status === 401) {
    loggedOut();
  }
  return { ok: answer.ok, status: answer.status, json };
}

function loggedOut() {
  me = null;
  shownSignals = "";
  for (const id of ["status", "inside", "lines", "who", "age", "lamp"]) {
    put(id);
  }
  find("inner").hidden = true;
  find("out").hidden = true;
  find("login").hidden = false;
  put("centre", say("box"));
}

function loggedIn(about) {
  me = about;
  zone = about.time_zone || undefined;
  find("login").hidden = true;
  find("inner").hidden = false;
  find("out").hidden = false;
  const roles = about.roles.map((role) => text("role_" + role, "zh")).join("、");
  put("who", about.name + "，" + roles);
  const may = (roles) => about.roles.some((role) => roles.includes(role));
  const tabs = ["status"];
  if (may(["carer", "director"])) {
    tabs.push("inside");
  }
  if (may(["installer", "director"])) {
    tabs.push("signals");
  }
  tab = tabs.includes(tab) ? tab : "status";
  put("tabs", ...tabs.map((name) => {
    const button = make("button", "", say("tab_" + name));
    button.type = "button";
    button.dataset.tab = name;
    button.addEventListener("click", () => show(name));
    return button;
  }));
  show(tab);
}

function show(name) {
  tab = name;
  for (const button of find("tabs").children) {
    button.setAttribute("aria-pressed", String(button.dataset.tab === name));
  }
  for (const id of ["status", "inside", "signals"]) {
    find(id).hidden = id !== name;
  }
  touched = true;
  look();
}

/** What anybody may see. */
function lampOnly(lamp) {
  const code = lamp.not_forwarded ? "lamp_not_forwarded" : lamp.alarm ? "lamp_alarm"
    : lamp.known ? "" : "lamp_unknown";
  const box = find("lamp");
  box.hidden = code === "";
  box.className = "banner " + (lamp.not_forwarded || lamp.alarm ? "p1" : "p3");
  box.replaceChildren(code ? make("h2", "", say(code)) : "");
}

function place(of) {
  const where = [of.zone, of.point].filter(Boolean).join("，");
  return where || text("no_place", "zh");
}

/** An alarm that did not get through, and what a caller must be able to say. */
function banner(status) {
  const box = find("lamp");
  const late = status.not_forwarded;
  if (late) {
    const cases = late.alarms.map((one) => {
      const line = make("li", "", text(one.kind, "zh") + "：" + place(one), make("div", "", at(one.at), " ", ago(one.at, status.now)));
      if (one.silent) {
        line.append(make("span", "en", text("silent", "zh") + " " + text("silent", "en")));
      }
      return line;
    });
    if (late.doubtful) {
      cases.push(make("li", "", say("doubtful")));
    }
    const centre = status.centre
      ? [make("p", "", status.centre.name), make("p", "", status.centre.address)] : [make("p", "", say("no_address"))];
    box.className = "banner p1";
    box.replaceChildren(make("h2", "", say("not_forwarded")), ...centre, make("ul", "", ...cases));
    box.hidden = false;
    return;
  }
  const ringing = status.alarms.length > 0;
  box.hidden = !ringing;
  box.className = "banner p1";
  box.replaceChildren(ringing ? make("h2", "", say("lamp_alarm")) : "");
}

function card(title, ...inner) {
  return make("div", "card", make("h2", "", say(title)), ...inner);
}

/** Each part on a line of its own: a number beside a time would read as one. */
function lines(parts) {
  return parts.filter((part) => part !== "").map((part) => make("div", "", part));
}

function row(left, right) {
  return make("li", "row", make("div", "wrap", ...left), make("div", "", ...lines(right)));
}

function alarmRow(alarm, now) {
  const kinds = alarm.kinds.length ? alarm.kinds : ["alarm_" + (alarm.role || "none")];
  const words = kinds.map((kind) => say(kind));
  const state = alarm.active ? "active" : "restored";
  const notes = [say(state), say(alarm.acknowledged ? "acknowledged" : "unacknowledged")];
  if (alarm.silent) {
    notes.push(say("silent"));
  }
  if (alarm.worst === "unverified") {
    notes.push(say("unverified"));
  }
  const since = alarm.since ? [at(alarm.since), ago(alarm.since, now)] : [];
  return row([make("h3", "", ...words), make("p", "quiet", place(alarm))], [...notes, ...since]);
}

function faultCard(status) {
  const items = status.faults.map((fault) => {
    const fill = { n: fault.count ?? "" };
    const since = fault.since ? [at(fault.since), ago(fault.since, status.now)] : [];
    return row([make("h3", "", say("fault_" + fault.code, fill)), make("p", "quiet", say("fix_" + fault.code, fill))], since);
  });
  for (const device of status.devices) {
    for (const trouble of device.troubles) {
      const since = trouble.since ? [at(trouble.since), ago(trouble.since, status.now)] : [say("since_unknown")];
      const name = [device.zone, device.device].filter(Boolean).join("，");
      const code = words["fix_" + trouble.kind] ? "fix_" + trouble.kind : "fix_device";
      items.push(row([make("h3", "", name + "：", say(trouble.kind)), make("p", "quiet", say(code))], since));
    }
  }
  const title = items.length === 0 ? "faults_none" : "faults";
  return card(title, make("ul", "", ...items));
}

function showStatus(status) {
  put("centre", status.centre ? status.centre.name : say("box"));
  banner(status);
  const parts = [];
  if (status.alarms.length) {
    parts.push(card("alarms", make("ul", "", ...status.alarms.map((alarm) => alarmRow(alarm, status.now)))));
  }
  parts.push(faultCard(status));
  const facts = make("dl", "");
  const fact = (code, ...value) => facts.append(make("dt", "", say(code)), make("dd", "", ...lines(value)));
  fact("cloud", say(status.cloud.up ? "cloud_up" : "cloud_down"), ago(status.cloud.since, status.now));
  fact("config", String(status.config.version), status.config.made_at ? ago(status.config.made_at, status.now) : "");
  fact("connected", String(status.devices_connected));
  for (const lane of status.lanes) {
    const age = lane.oldest_s === null ? "" : ago(status.now - lane.oldest_s * 1000, status.now);
    fact("lane_" + lane.lane, String(lane.rows), age);
  }
  const trouble = status.cloud.trouble
    ? make("p", "quiet wrap", say("cloud_trouble"), make("code", "", status.cloud.trouble)) : "";
  parts.push(card("box", facts, trouble, make("p", "quiet wrap", "ID " + status.gateway)));
  const devices = status.devices.map((device) => {
    const roles = device.roles.map((role) => text("role_" + role, "zh")).join("、");
    const name = [device.zone, device.device].filter(Boolean).join("，");
    const heard = device.heard ? [at(device.heard), ago(device.heard, status.now)] : [say("never_heard")];
    const notes = device.supervised ? [] : [make("p", "quiet", say("unsupervised"))];
    return row([make("h3", "", name), make("p", "quiet", roles), ...notes], heard);
  });
  parts.push(card("devices", make("p", "quiet", say("devices_note")), make("ul", "", ...devices)));
  put("status", ...parts);
  const as = status.as_of === null ? say("unknown") : say("as_of", { at: at(status.as_of) });
  put("age", as, users(status.config, status.now));
}

/** How old the list of those who may log in is. */
function users(config, now) {
  if (config.current) {
    return say("users_current", { n: config.version });
  }
  const line = make("span", "", say("users_old", { n: config.version }));
  if (config.made_at) {
    line.append(ago(config.made_at, now));
  }
  return line;
}

function showInside(inside) {
  const parts = [];
  if (inside.stale.length) {
    const why = inside.stale.map((code) => make("li", "", say("stale_" + code)));
    const as = inside.as_of === null ? say("unknown") : say("as_of", { at: at(inside.as_of) });
    parts.push(make("div", "banner p3", make("h2", "", as), make("ul", "", ...why)));
  }
  const classes = inside.classes.map((one) => row([one.name], [one.inside + " / " + one.enrolled]));
  parts.push(card("inside_now", make("p", "count", String(inside.total)),
    inside.as_of === null ? "" : make("p", "quiet", say("as_of", { at: at(inside.as_of) })),
    make("ul", "", ...classes)));
  const children = inside.children.map((child) => {
    const name = child.short_name === null ? [say("not_in_list")] : [child.short_name];
    const notes = child.leaving ? [make("span", "tag", say("leaving"))] : [];
    return row([make("h3", "", ...name), make("p", "quiet", child.class_group || "")],
      [at(child.since), ago(child.since, inside.now), ...notes]);
  });
  parts.push(card("children", children.length ? make("ul", "", ...children) : make("p", "", say("nobody_inside"))));
  put("inside", ...parts);
}

function meaning(line) {
  if (line.events.length === 0) {
    return [make("p", "", say("became_" + line.became))];
  }
  return line.events.map((event) => {
    const tag = text("state_" + event.state, "zh") + "，" + text("severity_" + event.severity, "zh");
    const parts = [make("div", "", make("b", "", text(event.kind, "zh")), " ", make("span", "tag", tag))];
    parts.push(make("span", "en", event.kind + " " + event.state + " " + event.severity));
    if (event.unread) {
      parts.push(make("div", "", say("unread_" + event.unread)));
    }
    return make("div", "", ...parts);
  });
}

function signal(line) {
  const head = make("p", "quiet wrap", at(line.at) + " · " + line.username + " · " + line.size + " B · QoS " + line.qos);
  const parts = [head, make("code", "", line.topic), ...meaning(line)];
  if (line.enrol) {
    parts.push(make("p", "wrap", say("enrol_under"), make("code", "", line.enrol.ecosystem + "  " + line.enrol.address)));
  }
  if (line.qos === 0) {
    parts.push(make("p", "quiet", say("qos0")));
  }
  if (line.text !== null) {
    parts.push(make("code", "body", line.text));
    if (line.redacted || line.cut) {
      parts.push(make("p", "quiet", say(line.redacted ? "redacted" : "cut")));
    }
  } else {
    parts.push(make("p", "quiet wrap", say("hidden_" + line.hidden), make("code", "", "SHA-256 " + line.digest.slice(0, 16))));
    if (line.unread && !line.events.some((event) => event.unread)) {
      parts.push(make("p", "quiet", say("unread_" + line.unread)));
    }
  }
  return make("article", "card", ...parts);
}

function showSignals(log) {
  const key = log.serial + " " + log.left_out + " " + find("find").value + " " + log.lines.length;
  if (key === shownSignals) {
    return;
  }
  shownSignals = key;
  const left = log.left_out ? [make("p", "quiet", say("left_out", { n: log.left_out }))] : [];
  const lines = log.lines.length ? log.lines.map(signal) : [make("p", "card", say("no_signals"))];
  put("lines", ...left, ...lines);
}

async function look() {
  try {
    if (me === null) {
      const lamp = await ask("/api/lamp");
      if (me === null && lamp.ok) {
        lampOnly(lamp.json);
      }
      return;
    }
    const status = await ask("/api/status");
    if (me !== null && status.ok) {
      showStatus(status.json);
    }
    if (me !== null && tab === "inside") {
      const inside = await ask("/api/inside");
      if (me !== null && inside.ok) {
        showInside(inside.json);
      }
    }
    if (me !== null && tab === "signals") {
      const wanted = encodeURIComponent(find("find").value.trim());
      const log = await ask("/api/signals?find=" + wanted);
      if (me !== null && log.ok) {
        showSignals(log.json);
      }
    }
  } catch {
    // Told by the clock below.
  }
}

/** What is on the screen is old when the box does not answer. */
function watchSilence() {
  const silent = Date.now() - lastHeard > SLOW;
  const box = find("lost");
  box.hidden = !silent;
  if (silent) {
    const when = lastHeard ? at(lastHeard) : text("never", "zh");
    box.replaceChildren(make("h2", "", say("lost", { at: when })), make("p", "", say("lost_fix")));
  }
}

async function logIn(event) {
  event.preventDefault();
  const button = find("login").querySelector("button");
  button.disabled = true;
  put("wrong");
  try {
    const body = JSON.stringify({ name: find("name").value, pin: find("pin").value });
    const answer = await ask("/api/session", body);
    if (answer.ok) {
      loggedIn(answer.json);
    } else {
      const minutes = Math.ceil((answer.json.wait_s || 0) / 60);
      put("wrong", say("refused_" + answer.json.error, { n: minutes }));
    }
  } catch {
    put("wrong", say("refused_failed"));
  }
  find("pin").value = "";
  button.disabled = false;
}

async function logOut() {
  try {
    await ask("/api/session/end", "");
    loggedOut();
    look();
  } catch {
    put("who", say("refused_failed"));
  }
}

async function begin() {
  try {
    words = (await ask("/words.json")).json;
    for (const element of document.querySelectorAll("[data-say]")) {
      element.replaceChildren(say(element.dataset.say));
    }
    const about = await ask("/api/me");
    if (about.ok) {
      loggedIn(about.json);
    }
  } catch {
    setTimeout(begin, EVERY);
    return;
  }
  find("login").addEventListener("submit", logIn);
  find("out").addEventListener("click", logOut);
  find("find").addEventListener("input", () => { shownSignals = ""; look(); });
  for (const kind of ["pointerdown", "keydown"]) {
    document.addEventListener(kind, () => { touched = true; }, { passive: true });
  }
  const round = async () => {
    if (!document.hidden) {
      await look();
    }
    setTimeout(round, EVERY);
  };
  round();
  setInterval(watchSilence, 1000);
}

begin();
