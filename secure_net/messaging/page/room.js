// What the page knows of one room. No DOM here.

const MOST_KEPT = 1_000; // messages in memory; older ones can be loaded again

// 128 random bits: what tells a message that is sent again from another.
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (octet) => octet.toString(16).padStart(2, "0")).join("");
}

export function isRoomName(name) {
  return /^[a-z0-9._-]{1,64}$/.test(name);
}

// The address names the rooms, the open one first, so that it can be kept as a bookmark: #ops,general
export function roomsIn(hash) {
  return [...new Set(hash.slice(1).split(","))].filter(isRoomName);
}

export class Room {
  constructor(name) {
    this.name = name;
    this.state = "joining"; // "joined", "away" (the connection is lost)
    this.incarnation = null; // of a room without history
    this.seq = 0; // the newest number that we know of
    this.messages = []; // {seq, from, at, body}, by number without doubles
    this.shown = 0; // the newest number that is on the screen, while the room is open
    this.pending = new Map(); // id: {id, body, at, state, problem, seq}, in order of writing
    this.hasOlder = false;
    this.isLoading = false;
    this.people = new Set();
    this.count = 0;
    this.unread = 0;
    this.marker = 0; // the number of the first message that was not seen when it came; 0: none
    this.note = ""; // what became of what was said meanwhile
    this.draft = "";
    this.place = null; // where the reader was, null: at the end
  }

  get isLive() {
    return this.incarnation !== null;
  }

  // How to come (back) in: everything since the last message we know of, where there is a history.
  joinRequest() {
    const request = { type: "join", room: this.name };
    if (this.messages.length && !this.isLive) request.after = this.seq;
    return request;
  }

  joined({ seq, members, incarnation = null }) {
    if (incarnation !== this.incarnation || incarnation !== null) {
      if (this.messages.length) this.note = "What was said while you were away is not kept in this room.";
      if (incarnation !== this.incarnation) this.forgetMessages();
      this.incarnation = incarnation;
    }
    if (!this.messages.length) this.seq = seq;
    this.count = members;
    this.state = "joined";
  }

  forgetMessages() {
    this.messages = [];
    this.seq = 0;
    this.marker = 0;
    this.hasOlder = false;
  }

  // Returns whether it is new. What comes again after a lost connection is known by its number.
  add(message) {
    const last = this.messages.at(-1);
    if (last && message.seq <= last.seq) return false;
    this.messages.push(message);
    this.seq = Math.max(this.seq, message.seq);
    this.#settle(message);
    return true;
  }

  // A message of our own is here: it waits no more. Its number came by the ack, or will.
  #settle(message) {
    for (const [id, waiting] of this.pending) if (waiting.seq === message.seq) this.pending.delete(id);
  }

  acknowledged(id, seq) {
    const waiting = this.pending.get(id);
    if (!waiting) return;
    waiting.seq = seq;
    const isHere = this.messages.some((message) => message.seq === seq);
    const isOld = this.messages.length && seq < this.messages[0].seq;
    if (isHere || isOld) this.pending.delete(id);
  }

  addHistory(past, more) {
    const first = this.messages.length ? this.messages[0].seq : Infinity;
    this.messages.unshift(...past.filter((message) => message.seq < first));
    this.seq = Math.max(this.seq, this.messages.at(-1)?.seq ?? 0);
    this.hasOlder = more;
    this.isLoading = false;
    for (const message of past) this.#settle(message);
  }

  // Keeps the page light; what is cut off is loaded again when it is scrolled to.
  trim() {
    if (this.messages.length <= MOST_KEPT) return false;
    this.messages.splice(0, this.messages.length - MOST_KEPT);
    this.hasOlder = !this.isLive;
    return true;
  }

  say(body) {
    const message = { id: newId(), body, at: Date.now() / 1000, state: "waiting", problem: "", seq: 0 };
    this.pending.set(message.id, message);
    return message;
  }

  read() {
    const had = this.unread;
    this.unread = 0;
    return had > 0;
  }
}
