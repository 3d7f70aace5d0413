// From what is known to what is seen. Whatever somebody wrote becomes text by textContent, and nothing else.

const GROUP_SECONDS = 300; // messages of one person within this stand under one name
const HUES = 8; // classes .hue-0 to .hue-7 of the style sheet

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const byId = (id) => document.getElementById(id);

export function element(name, classes = "", text = null) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text !== null) made.textContent = text;
  return made;
}

export function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

function hue(name) {
  let sum = 2166136261; // FNV-1a: names that differ in a letter get other colours
  for (const letter of name) sum = Math.imul(sum ^ letter.codePointAt(0), 16777619) >>> 0;
  return `hue-${(sum >>> 8) % HUES}`;
}

export function dress(avatar, name) {
  avatar.className = `avatar ${hue(name)}`;
  avatar.textContent = name.slice(0, 1).toUpperCase();
}

function avatarOf(name) {
  const avatar = element("span");
  dress(avatar, name);
  avatar.setAttribute("aria-hidden", "true");
  return avatar;
}

// --- messages ------------------------------------------------------------------------------------------------

// What was said, as text: a string as it is, any other JSON as JSON.
export function wording(body) {
  return typeof body === "string" ? body : JSON.stringify(body, null, 2);
}

function dayOf(seconds) {
  const date = new Date(seconds * 1000);
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

function dayName(seconds) {
  const days = Math.round((dayOf(Date.now() / 1000) - dayOf(seconds)) / 86_400_000);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return calendar.format(new Date(seconds * 1000));
}

function timeOf(seconds) {
  const date = new Date(seconds * 1000);
  const time = element("time", "time", clock.format(date));
  time.dateTime = date.toISOString();
  time.title = full.format(date);
  return time;
}

function separator(classes, text) {
  const row = element("li", `separator ${classes}`);
  row.append(element("span", "", text));
  return row;
}

function bubbleOf(body) {
  const bubble = element("div", typeof body === "string" ? "bubble" : "bubble json");
  bubble.dir = "auto";
  bubble.textContent = wording(body);
  return bubble;
}

function messageRow(message, isOwn, continues) {
  const row = element("li", `message${isOwn ? " own" : ""}${continues ? " continues" : ""}`);
  const head = element("div", continues ? "hidden" : "byline");
  head.append(element("span", "name", isOwn ? "You" : message.from), " ", timeOf(message.at));
  const said = element("div", "said");
  said.append(head, bubbleOf(message.body));
  if (!isOwn) row.append(continues ? element("span", "avatar-room") : avatarOf(message.from));
  row.append(said);
  return row;
}

// The rows that `message` needs behind `previous` (null: it is the first).
export function rowsFor(message, previous, room, me) {
  const rows = [];
  const isNewDay = !previous || dayOf(previous.at) !== dayOf(message.at);
  const isMarked = room.marker > 0 && message.seq >= room.marker && (!previous || previous.seq < room.marker);
  if (isNewDay) rows.push(separator("day", dayName(message.at)));
  if (isMarked) rows.push(separator("new", "New"));
  const continues =
    !isNewDay && !isMarked && previous.from === message.from && message.at - previous.at < GROUP_SECONDS;
  rows.push(messageRow(message, message.from === me, continues));
  return rows;
}

const WAITING = { waiting: "Waiting for the connection", sent: "Sending" };

// A message of our own that the server has not acknowledged. `act(what, id)`: "again" or "discard".
export function pendingRow(message, act) {
  const row = element("li", `message own pending ${message.state}`);
  const said = element("div", "said");
  const foot = element("div", "foot", WAITING[message.state] ?? `Not sent: ${message.problem}`);
  if (message.state === "failed") {
    for (const [what, words] of [["again", "Try again"], ["discard", "Discard"]]) {
      const button = element("button", "button small", words);
      button.type = "button";
      button.addEventListener("click", () => act(what, message.id));
      foot.append(" ", button);
    }
  }
  said.append(bubbleOf(message.body), foot);
  row.append(said);
  return row;
}

export function noteRow(text) {
  return separator("note", text);
}

// --- lists ---------------------------------------------------------------------------------------------------

export function roomRow(room, isActive, onOpen) {
  const row = element("li");
  const button = element("button", `item${isActive ? " active" : ""}${room.unread ? " unread" : ""}`);
  button.type = "button";
  if (isActive) button.setAttribute("aria-current", "true");
  button.setAttribute("aria-label", room.name);
  button.append(element("span", "hash", "#"), element("span", "label", room.name));
  if (room.unread) {
    const badge = element("span", "badge", room.unread > 99 ? "99+" : String(room.unread));
    button.append(badge);
    button.setAttribute("aria-label", `${room.name}, ${plural(room.unread, "new message", "new messages")}`);
  }
  button.addEventListener("click", () => onOpen(room.name));
  row.append(button);
  return row;
}

export function personRow(name, me) {
  const row = element("li", "item person");
  row.append(avatarOf(name), element("span", "label", name));
  if (name === me) row.append(element("span", "quiet", "you"));
  return row;
}
