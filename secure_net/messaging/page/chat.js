// The page: who signs in, which rooms there are, what is written. Talks through a Link, remembers in Rooms, shows
// by view.js.

import { Link } from "./link.js";
import { Room, isRoomName } from "./room.js";
import { byId, dress, element, noteRow, pendingRow, personRow, plural, roomRow, rowsFor, wording } from "./view.js";

const HISTORY_PAGE = 50;
const AGAIN_PAUSE = 2_000; // after "unavailable"
const NEAR = 60; // pixels from the end that count as the end
const NARROW = matchMedia("(max-width: 760px)");

const PROBLEMS = {
  malformed: "the server did not understand it",
  too_large: "it is too long",
  not_permitted: "you may not write in this room",
  rooms: "there are too many rooms",
  id_reused: "another message has taken its place",
  internal: "the server has a fault",
};
const REFUSALS = {
  unauthenticated: "This token is not valid. It may be mistyped, expired or revoked.",
  expired: "Your access has expired. Sign in with a new token.",
  revoked: "Your access was revoked.",
};

const rooms = new Map();
let active = null; // a Room
let me = "";
let certificate = ""; // who the browser's client certificate names
let bounds = null;
let inFlight = 0;
let announced = 0;

const link = new Link(`wss://${location.host}/socket`, { onState, onWelcome, onObject });

// --- signing in and out --------------------------------------------------------------------------------------

async function begin() {
  try {
    const answer = await fetch("/whoami", { cache: "no-store" });
    certificate = (await answer.json()).principal ?? "";
  } catch {
    certificate = ""; // the link will say that the server cannot be reached
  }
  showLogin("");
  if (certificate) link.open(null);
  else byId("token").focus();
}

function showLogin(problem) {
  byId("app").hidden = true;
  byId("welcome").hidden = false;
  byId("login-error").textContent = problem;
  byId("login-certificate").hidden = byId("login-or").hidden = !certificate;
  byId("login-certificate").textContent = `Continue as ${certificate}`;
  document.title = "Chat";
}

function signIn(event) {
  event.preventDefault();
  const token = byId("token").value.trim();
  if (!token) {
    showLogin("Paste a token first.");
    byId("token").focus();
    return;
  }
  byId("login-error").textContent = "";
  link.open(token);
}

function signOut(problem) {
  link.close();
  rooms.clear();
  active = null;
  me = "";
  byId("messages").replaceChildren();
  byId("people").replaceChildren();
  byId("token").value = "";
  showLogin(problem);
  byId("token").focus();
}

function onState(state, detail) {
  const words = {
    connecting: "Connecting\u2026",
    online: "Connected",
    waiting: detail.reason === "draining" ? "The server restarts\u2026" : "No connection. Trying again\u2026",
    refused: "Signed out",
    closed: "Signed out",
  };
  byId("state").className = `state ${state}`;
  byId("state-text").textContent = words[state];
  byId("retry").hidden = state !== "waiting";
  byId("login-token").disabled = byId("login-certificate").disabled = state === "connecting";
  if (state === "waiting" || state === "refused") lost();
  if (state === "refused") signOut(REFUSALS[detail.reason] ?? REFUSALS.unauthenticated);
  if (state === "waiting" && byId("app").hidden) {
    byId("login-error").textContent = "The server cannot be reached. Trying again\u2026";
  }
}

function lost() {
  inFlight = 0;
  for (const room of rooms.values()) {
    room.state = "away";
    room.isLoading = false;
    for (const message of room.pending.values()) if (message.state === "sent") message.state = "waiting";
  }
  if (active) showPending();
}

function onWelcome(welcome) {
  const isFirst = byId("app").hidden;
  me = welcome.principal;
  bounds = welcome.limits;
  byId("token").value = "";
  byId("welcome").hidden = true;
  byId("app").hidden = false;
  byId("my-name").textContent = me;
  dress(byId("my-avatar"), me);
  arrange();
  for (const room of rooms.values()) link.send(room.joinRequest());
  sendWaiting();
  if (!isFirst) return;
  for (const name of namesInAddress()) enter(name);
  open(active?.name ?? namesInAddress()[0] ?? null);
  (active ? byId("text") : byId("join-room")).focus();
}

// --- what the server says ------------------------------------------------------------------------------------

const HANDLERS = {
  joined(answer, room) {
    const isAgain = room.messages.length > 0;
    room.joined(answer);
    room.people.clear();
    link.send({ type: "who", room: room.name });
    if (!isAgain && !room.isLive) loadOlder(room);
    if (room === active) showRoom();
  },
  left(answer, room) {
    forget(room);
  },
  message(message, room) {
    const previous = room.messages.at(-1) ?? null;
    if (!room.add(message)) return;
    receive(room, message, previous);
  },
  history(answer, room) {
    const isFirst = !room.messages.length;
    room.addHistory(answer.messages, answer.more);
    if (room === active) keepPlace(showMessages, isFirst);
  },
  who(answer, room) {
    for (const name of answer.members) room.people.add(name);
    if (answer.more) link.send({ type: "who", room: room.name, after: answer.members.at(-1) });
    else if (room === active) showPeople();
  },
  presence(answer, room) {
    room.people[answer.online ? "add" : "delete"](answer.member);
    if (room === active) showPeople();
  },
};

function onObject(object) {
  if (object.type === "ack") return acknowledged(object);
  if (object.type === "error") return failed(object);
  const room = rooms.get(object.room);
  if (room && Object.hasOwn(HANDLERS, object.type)) HANDLERS[object.type](object, room);
}

function receive(room, message, previous) {
  const isOwn = message.from === me;
  const isSeen = room === active && !document.hidden && isAtEnd();
  if (!isOwn && !isSeen) {
    room.unread += 1;
    room.marker ||= message.seq;
    showRooms();
  }
  if (room !== active) return;
  const stays = isAtEnd() || isOwn;
  if (stays && room.trim()) showMessages();
  else byId("messages").append(...rowsFor(message, previous, room, me));
  showPending();
  if (stays) scrollToEnd();
  showJump();
  if (!isOwn) announce(`${message.from}: ${wording(message.body)}`);
}

function acknowledged({ id, seq }) {
  const room = roomOf(id);
  if (!room) return;
  if (room.pending.get(id).state === "sent") inFlight -= 1;
  room.acknowledged(id, seq);
  if (room === active) showPending();
  sendWaiting();
}

function roomOf(id) {
  for (const room of rooms.values()) if (room.pending.has(id)) return room;
  return null;
}

function failed(error) {
  const room = error.id ? roomOf(error.id) : rooms.get(error.room);
  if (!room) return;
  if (error.id) sayFailed(room, room.pending.get(error.id), error.code);
  else if (error.code === "history_gap") rejoinAfterGap(room);
  else if (error.code === "unavailable") setTimeout(() => rooms.has(room.name) && askAgain(room), AGAIN_PAUSE);
  else if (error.code !== "no_history") {
    forget(room);
    showJoinProblem(
      error.code === "not_permitted" ? `You may not read \u201c${room.name}\u201d.` : `\u201c${room.name}\u201d: ${PROBLEMS[error.code] ?? error.reason}.`,
    );
  }
}

function sayFailed(room, message, code) {
  if (message.state === "sent") inFlight -= 1;
  if (code === "unavailable") {
    message.state = "waiting";
    setTimeout(sendWaiting, AGAIN_PAUSE);
  } else {
    message.state = "failed";
    message.problem = PROBLEMS[code] ?? "the server refused it";
  }
  if (room === active) showPending();
}

function rejoinAfterGap(room) {
  room.forgetMessages();
  room.note = "Some of what was said while you were away is no longer kept.";
  link.send(room.joinRequest());
}

function askAgain(room) {
  room.isLoading = false;
  if (room.state !== "joined") link.send(room.joinRequest());
}

// --- rooms ---------------------------------------------------------------------------------------------------

// The address names the rooms, the open one first, so that it can be kept as a bookmark.
function namesInAddress() {
  return [...new Set(decodeURIComponent(location.hash.slice(1)).split(","))].filter(isRoomName);
}

function keepInAddress() {
  const names = [...rooms.keys()].filter((name) => name !== active?.name);
  if (active) names.unshift(active.name);
  history.replaceState(null, "", names.length ? `#${names.join(",")}` : location.pathname);
}

function enter(name) {
  if (rooms.has(name)) return;
  const room = new Room(name);
  rooms.set(name, room);
  link.send(room.joinRequest());
}

function open(name) {
  if (active) {
    active.draft = byId("text").value;
    active.place = isAtEnd() ? null : byId("scroller").scrollTop;
    active.marker = 0;
  }
  active = rooms.get(name) ?? null;
  byId("text").value = active?.draft ?? "";
  grow();
  keepInAddress();
  closePanels();
  showRoom();
}

function forget(room) {
  rooms.delete(room.name);
  if (room === active) {
    active = null;
    open(rooms.keys().next().value ?? null);
  }
  keepInAddress();
  showRooms();
}

function join(event) {
  event.preventDefault();
  const name = byId("join-room").value.trim().toLowerCase().replace(/^#/, "");
  if (!isRoomName(name)) {
    showJoinProblem("A room\u2019s name has letters, digits, dots, hyphens and underscores, at most 64.");
    return;
  }
  showJoinProblem("");
  byId("join-room").value = "";
  enter(name);
  open(name);
  byId("text").focus();
}

function showJoinProblem(text) {
  byId("join-problem").textContent = text;
  if (text && NARROW.matches) openPanel("rooms-panel", "show-rooms");
}

function leave() {
  if (!active) return;
  link.send({ type: "leave", room: active.name });
  forget(active);
  byId("room-title").focus();
}

function loadOlder(room) {
  if (room.isLoading || room.isLive) return;
  const request = { type: "history", room: room.name, limit: Math.min(HISTORY_PAGE, bounds.page_count) };
  if (room.messages.length) request.before = room.messages[0].seq;
  room.isLoading = link.send(request);
}

// --- writing -------------------------------------------------------------------------------------------------

function compose(event) {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text || !active) return;
  const problem = tooLong(text);
  byId("composer-problem").textContent = problem;
  if (problem) return;
  active.say(text.toWellFormed ? text.toWellFormed() : text);
  active.marker = 0;
  byId("text").value = "";
  grow();
  sendWaiting();
  showPending();
  scrollToEnd();
}

function tooLong(text) {
  const length = new TextEncoder().encode(JSON.stringify(text)).length;
  if (length <= bounds.body_bytes) return "";
  return `This message is too long: ${Math.ceil(length / 1024)} KiB, and ${Math.floor(bounds.body_bytes / 1024)} fit.`;
}

// In the order of writing, as many as may be under way at once.
function sendWaiting() {
  for (const room of rooms.values()) {
    for (const message of room.pending.values()) {
      if (message.state !== "waiting") continue;
      if (inFlight >= bounds.unacknowledged_count || !link.isOnline) return;
      link.send({ type: "say", room: room.name, id: message.id, body: message.body });
      message.state = "sent";
      inFlight += 1;
    }
  }
}

function actOnPending(what, id) {
  const room = roomOf(id);
  if (!room) return;
  if (what === "discard") room.pending.delete(id);
  else room.pending.get(id).state = "waiting";
  sendWaiting();
  if (room === active) showPending();
  byId("text").focus();
}

function grow() {
  const text = byId("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
}

// --- showing -------------------------------------------------------------------------------------------------

function showRoom() {
  byId("room-title").textContent = active ? `#${active.name}` : "Chat";
  byId("leave").hidden = byId("leave-narrow").hidden = !active;
  byId("composer").hidden = !active;
  byId("text-label").textContent = active ? `Message to ${active.name}` : "Message";
  showMessages();
  showPeople();
  if (active?.place != null) byId("scroller").scrollTop = active.place;
  else scrollToEnd();
  seen();
}

function showMessages() {
  const rows = [];
  let previous = null;
  for (const message of active?.messages ?? []) {
    rows.push(...rowsFor(message, previous, active, me));
    previous = message;
  }
  byId("messages").replaceChildren(...rows);
  byId("older").hidden = !active?.hasOlder;
  showEmpty();
  showPending();
}

function showEmpty() {
  const empty = byId("empty");
  const waits = active && (active.state === "joining" || active.isLoading);
  empty.hidden = Boolean(active && (active.messages.length || active.pending.size || waits));
  empty.replaceChildren(
    element("p", "big", active ? `This is the beginning of #${active.name}` : "No room is open"),
    element("p", "quiet", active ? "Write the first message." : "Join one by its name to see what is said there."),
  );
}

function showPending() {
  const list = byId("messages");
  for (const row of [...list.querySelectorAll(".pending, .note")]) row.remove();
  if (!active) return;
  if (active.note) list.prepend(noteRow(active.note));
  const shown = [...active.pending.values()].filter((message) => !message.seq);
  list.append(...shown.map((message) => pendingRow(message, actOnPending)));
  if (active.pending.size) byId("empty").hidden = true;
}

function showRooms() {
  const focused = document.activeElement?.closest?.("#rooms .item .label")?.textContent;
  const rows = [...rooms.values()].map((room) => roomRow(room, room === active, (name) => open(name)));
  byId("rooms").replaceChildren(...rows);
  if (focused) rows.find((row) => row.textContent.includes(focused))?.firstChild.focus();
  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  byId("elsewhere").hidden = ![...rooms.values()].some((room) => room.unread && room !== active);
  document.title = `${unread ? `(${unread}) ` : ""}${active ? `#${active.name} \u2013 ` : ""}Chat`;
}

function showPeople() {
  const names = [...(active?.people ?? [])].sort((one, other) => (other === me) - (one === me) || one.localeCompare(other));
  byId("people").replaceChildren(...names.map((name) => personRow(name, me)));
  byId("people-title").textContent = active ? plural(Math.max(names.length, active.people.size), "person here", "people here") : "People";
}

function announce(text) {
  const log = byId("announcer");
  announced += 1;
  const mine = announced;
  setTimeout(() => {
    if (mine === announced) announced = 0;
  }, 1_000);
  if (announced <= 3) log.textContent = text;
  else log.textContent = plural(announced, "new message", "new messages");
}

// --- where the reader is -------------------------------------------------------------------------------------

function isAtEnd() {
  const scroller = byId("scroller");
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR;
}

function scrollToEnd() {
  const scroller = byId("scroller");
  scroller.scrollTop = scroller.scrollHeight;
  seen();
}

// Older messages are put on top: what is being read stays where it is.
function keepPlace(change, toEnd) {
  const scroller = byId("scroller");
  const fromEnd = scroller.scrollHeight - scroller.scrollTop;
  change();
  if (toEnd) scrollToEnd();
  else scroller.scrollTop = scroller.scrollHeight - fromEnd;
}

function seen() {
  if (active && !document.hidden && isAtEnd()) active.read();
  showRooms();
  showJump();
}

function showJump() {
  const jump = byId("jump");
  jump.hidden = !active || isAtEnd();
  const unread = active?.unread ?? 0;
  jump.textContent = unread ? `${plural(unread, "new message", "new messages")} \u2193` : "To the newest \u2193";
}

function scrolled() {
  if (active?.hasOlder && byId("scroller").scrollTop < NEAR) loadOlder(active);
  if (active?.unread && isAtEnd()) seen();
  else showJump();
}

// --- narrow screens: the lists are panels over the conversation --------------------------------------------------

const PANELS = { "rooms-panel": "show-rooms", "people-panel": "show-people" };

function openPanel(panel) {
  closePanels();
  byId(panel).classList.add("open");
  byId("veil").hidden = false;
  arrange();
  byId(PANELS[panel]).setAttribute("aria-expanded", "true");
  byId(panel).querySelector(".close-panel").focus();
}

function closePanels() {
  for (const [panel, button] of Object.entries(PANELS)) {
    const hadFocus = byId(panel).contains(document.activeElement);
    if (!byId(panel).classList.contains("open")) continue;
    byId(panel).classList.remove("open");
    byId(button).setAttribute("aria-expanded", "false");
    if (hadFocus) byId(button).focus();
  }
  byId("veil").hidden = true;
  arrange();
}

// What is out of sight is out of the tab order, and out of a screen reader's way.
function arrange() {
  const opened = Object.keys(PANELS).find((panel) => byId(panel).classList.contains("open"));
  for (const panel of Object.keys(PANELS)) byId(panel).inert = NARROW.matches && panel !== opened;
  document.querySelector(".conversation").inert = NARROW.matches && opened !== undefined;
}

// --- what the reader does ------------------------------------------------------------------------------------

byId("login").addEventListener("submit", signIn);
byId("login-certificate").addEventListener("click", () => link.open(null));
byId("token").addEventListener("keydown", (event) => {
  if (event.key === "Enter") signIn(event);
});
byId("sign-out").addEventListener("click", () => signOut(""));
byId("retry").addEventListener("click", () => link.retry());
byId("join").addEventListener("submit", join);
byId("leave").addEventListener("click", leave);
byId("leave-narrow").addEventListener("click", leave);
byId("older").addEventListener("click", () => active && loadOlder(active));
byId("jump").addEventListener("click", scrollToEnd);
byId("scroller").addEventListener("scroll", scrolled, { passive: true });
byId("composer").addEventListener("submit", compose);
byId("text").addEventListener("input", () => {
  grow();
  byId("composer-problem").textContent = "";
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) compose(event);
});
for (const [panel, button] of Object.entries(PANELS)) {
  byId(button).addEventListener("click", () => openPanel(panel));
  byId(panel).querySelector(".close-panel").addEventListener("click", closePanels);
}
byId("veil").addEventListener("click", closePanels);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closePanels();
});
document.addEventListener("visibilitychange", () => (document.hidden ? undefined : seen()));
NARROW.addEventListener("change", closePanels);

begin();
