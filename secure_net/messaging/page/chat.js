// The page: who signs in, which rooms there are, what is written. Talks through a Link, remembers in Rooms, shows
// by view.js.

import { Link } from "./link.js";
import { begin, busyLogin, hideLogin, isLoginShown, sayProblem, showLogin } from "./login.js";
import { arrange, closePanels, isNarrow, openPanel } from "./panels.js";
import { Room, isRoomName, roomsIn } from "./room.js";
import { byId, dress, element, noteRow, pendingRow, personRow, plural, roomRow, rowsFor, wording } from "./view.js";
import { REFUSALS, STATES, problemOf, roomProblem, tooLong } from "./words.js";

const HISTORY_PAGE = 50;
const AGAIN_PAUSE = 2_000; // after "unavailable"
const NEAR = 60; // pixels from the end that count as the end
const FRAME = 16; // milliseconds: what arrives within is shown at once

const rooms = new Map();
let active = null; // a Room
let me = "";
let bounds = null;
let inFlight = 0;
const fresh = []; // messages that are not shown yet
let showing = 0;
let wasAtEnd = true; // when it was last scrolled: a keyboard that opens shall not hide the end

const link = new Link(`wss://${location.host}/socket`, { onState, onWelcome, onObject });

// --- the session -----------------------------------------------------------------------------------------------

function signOut() {
  link.close();
  forgetEverything();
  showLogin("");
}

function forgetEverything() {
  rooms.clear();
  fresh.length = 0;
  active = null;
  me = "";
  byId("text").value = "";
  for (const list of ["messages", "people", "rooms"]) byId(list).replaceChildren();
}

// The server ended it. Who only has to bring a new token finds what was written and not sent.
function refused(reason) {
  if (reason !== "expired") forgetEverything();
  showLogin(REFUSALS[reason]);
}

function onState(state, detail) {
  byId("state").className = `state ${state}`;
  byId("state-text").textContent = STATES[detail.reason] ?? STATES[state];
  byId("retry").hidden = state !== "waiting";
  busyLogin(state === "connecting");
  if (state === "waiting" || state === "refused") lost();
  if (state === "refused") refused(detail.reason);
  if (state === "waiting" && isLoginShown()) sayProblem("The server cannot be reached. Trying again\u2026");
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
  const isFirst = isLoginShown();
  if (me !== welcome.principal) forgetEverything();
  me = welcome.principal;
  bounds = welcome.limits;
  hideLogin();
  byId("my-name").textContent = me;
  dress(byId("my-avatar"), me);
  arrange();
  for (const room of rooms.values()) link.send(room.joinRequest());
  sendWaiting();
  if (!isFirst) return;
  const names = roomsIn(location.hash);
  for (const name of names) enter(name);
  open(names[0] ?? null);
  if (!active && isNarrow()) openPanel("rooms-panel");
  byId(active ? "text" : "join-room").focus();
}

// --- what the server says ------------------------------------------------------------------------------------

const HANDLERS = {
  joined(answer, room) {
    const isAgain = room.messages.length > 0;
    room.joined(answer);
    room.people.clear();
    link.send({ type: "who", room: room.name });
    if (!isAgain && !room.isLive) loadOlder(room);
    if (room === active && isAgain) keepPlace(showMessages, false);
    else if (room === active) showRoom();
  },
  left(answer, room) {
    forget(room);
  },
  message(message, room) {
    if (!room.add(message)) return;
    fresh.push({ room, message });
    showing ||= setTimeout(showFresh, FRAME);
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

// A thousand messages that are replayed cost one look at the layout, not a thousand.
function showFresh() {
  showing = 0;
  const arrived = fresh.splice(0);
  const atEnd = isAtEnd();
  const isWatched = atEnd && !document.hidden;
  for (const { room, message } of arrived) {
    if (message.from === me || (room === active && isWatched)) continue;
    room.unread += 1;
    room.marker ||= message.seq;
  }
  const isHere = ({ room, message }) => room === active && message.seq > active.shown;
  const mine = arrived.filter(isHere).map(({ message }) => message);
  if (mine.length) append(mine, atEnd || mine.some((message) => message.from === me));
  showRooms();
}

function append(messages, stays) {
  const first = active.messages.indexOf(messages[0]);
  const isTrimmed = stays && active.trim();
  if (isTrimmed || first < 0) showMessages();
  else {
    const rows = [];
    let previous = active.messages[first - 1] ?? null;
    for (const message of messages) {
      rows.push(...rowsFor(message, previous, active, me));
      previous = message;
    }
    active.shown = previous.seq;
    byId("empty").hidden = true;
    byId("messages").append(...rows);
    showPending();
  }
  if (stays) scrollToEnd();
  else showJump();
  announce(messages.filter((message) => message.from !== me));
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
  else if (Object.hasOwn(ROOM_ERRORS, error.code)) ROOM_ERRORS[error.code](room);
  else {
    forget(room);
    showJoinProblem(roomProblem(room.name, error.code));
  }
}

// What is not the end of a room.
const ROOM_ERRORS = {
  history_gap: rejoinAfterGap,
  no_history: () => undefined,
  not_joined: (room) => link.send(room.joinRequest()),
  unavailable: (room) => setTimeout(() => rooms.get(room.name) === room && askAgain(room), AGAIN_PAUSE),
};

function sayFailed(room, message, code) {
  if (message.state === "sent") inFlight -= 1;
  if (code === "unavailable") {
    message.state = "waiting";
    setTimeout(sendWaiting, AGAIN_PAUSE);
  } else {
    message.state = "failed";
    message.problem = problemOf(code);
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
  else if (!room.messages.length) loadOlder(room);
}

// --- rooms ---------------------------------------------------------------------------------------------------

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
  if (text && isNarrow()) openPanel("rooms-panel");
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
  const length = new TextEncoder().encode(JSON.stringify(text)).length;
  const problem = length > bounds.body_bytes ? tooLong(length, bounds.body_bytes) : "";
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
  showRooms();
}

function showMessages() {
  const rows = [];
  let previous = null;
  for (const message of active?.messages ?? []) {
    rows.push(...rowsFor(message, previous, active, me));
    previous = message;
  }
  if (active) active.shown = previous?.seq ?? 0;
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
  const focused = byId("rooms").querySelector(".item:focus .label")?.textContent;
  const rows = [...rooms.values()].map((room) => roomRow(room, room === active, (name) => open(name)));
  byId("rooms").replaceChildren(...rows);
  if (focused) rows.find((row) => row.querySelector(".label").textContent === focused)?.firstChild.focus();
  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  byId("elsewhere").hidden = ![...rooms.values()].some((room) => room.unread && room !== active);
  document.title = `${unread ? `(${unread}) ` : ""}${active ? `#${active.name} \u2013 ` : ""}Chat`;
}

function showPeople() {
  const names = [...(active?.people ?? [])].sort((one, other) => (other === me) - (one === me) || one.localeCompare(other));
  byId("people").replaceChildren(...names.map((name) => personRow(name, me)));
  byId("people-title").textContent = active ? plural(Math.max(names.length, active.people.size), "person here", "people here") : "People";
}

// For screen readers: the messages' own list is silent, or its history would be read out.
function announce(messages) {
  if (!messages.length) return;
  const [message] = messages;
  byId("announcer").textContent =
    messages.length === 1
      ? `${message.from}: ${wording(message.body)}`
      : plural(messages.length, "new message", "new messages");
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
  if (active && !document.hidden && isAtEnd() && active.read()) showRooms();
  showJump();
}

function showJump() {
  const jump = byId("jump");
  jump.hidden = !active || isAtEnd();
  const unread = active?.unread ?? 0;
  jump.textContent = unread ? `${plural(unread, "new message", "new messages")} \u2193` : "To the newest \u2193";
}

function scrolled() {
  wasAtEnd = isAtEnd();
  if (active?.hasOlder && byId("scroller").scrollTop < NEAR) loadOlder(active);
  if (active?.unread && isAtEnd()) seen();
  else showJump();
}

// --- what the reader does ------------------------------------------------------------------------------------

byId("sign-out").addEventListener("click", signOut);
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
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  link.retry();
  seen();
});
new ResizeObserver(() => (wasAtEnd ? scrollToEnd() : showJump())).observe(byId("scroller"));

begin((token) => link.open(token));
