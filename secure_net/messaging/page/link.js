// One connection to the server, kept up: lost, it is opened again after a growing pause. Knows the objects that
// open, keep and end a session (hello, welcome, ping, pong, the errors that close); the rest it hands on.

const FIRST_PAUSE = 500; // milliseconds, doubled at each try
const LONGEST_PAUSE = 30_000;
const RESTART_PAUSE = 2_000; // the server said that it comes back
const OPEN_PATIENCE = 10_000; // from opening to welcome
const PING_PATIENCE = 10_000; // from a ping to anything at all
const LONGEST_SILENCE = 30_000; // shorter than what the server and most middleboxes bear

// After these another try with the same credential is no use.
const FINAL = new Set(["unauthenticated", "expired", "revoked"]);

export class Link {
  #address;
  #listener;
  #token = null;
  #socket = null;
  #tries = 0;
  #welcomed = false;
  #reason = "";
  #timer = 0;
  #beat = 0;
  #heard = 0;
  #silence = LONGEST_SILENCE;

  // `listener` has onState(state, detail), onWelcome(welcome), onObject(object). States: "connecting", "online",
  // "waiting" (detail: {seconds, reason}), "refused" (detail: {reason}), "closed".
  constructor(address, listener) {
    this.#address = address;
    this.#listener = listener;
    addEventListener("online", () => this.retry());
  }

  get isOnline() {
    return this.#welcomed;
  }

  // `token`: null where the certificate says who this is. Kept in memory only, for as long as the link is open.
  open(token) {
    this.close();
    this.#token = token;
    this.#tries = 0;
    this.#connect();
  }

  close() {
    this.#drop();
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#token = null;
    this.#listener.onState("closed", {});
  }

  // Do not wait for the pause to end.
  retry() {
    if (this.#timer && !this.#socket) {
      clearTimeout(this.#timer);
      this.#connect();
    }
  }

  send(object) {
    if (!this.#welcomed) return false;
    this.#socket.send(JSON.stringify(object));
    return true;
  }

  #connect() {
    this.#listener.onState("connecting", { again: this.#tries > 0 });
    this.#reason = "";
    const socket = new WebSocket(this.#address, "secure-net.chat.v1");
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(), OPEN_PATIENCE);
    socket.onopen = () => {
      const hello = { type: "hello" };
      if (this.#token !== null) hello.token = this.#token;
      socket.send(JSON.stringify(hello));
    };
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = () => this.#lost();
  }

  #receive(object) {
    this.#heard = Date.now();
    if (object.type === "welcome") this.#welcome(object);
    else if (object.type === "error" && FINAL.has(object.code)) this.#refused(object.code);
    else if (object.type !== "pong") {
      if (object.type === "error" && !object.room && !object.id) this.#reason = object.code;
      this.#listener.onObject(object);
    }
  }

  #welcome(welcome) {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#tries = 0;
    this.#welcomed = true;
    this.#silence = Math.min((welcome.limits.idle_seconds * 1000) / 3, LONGEST_SILENCE);
    this.#watch();
    this.#listener.onState("online", {});
    this.#listener.onWelcome(welcome);
  }

  // Nothing heard for a while: ask. Nothing heard then: the connection is dead, whatever the system believes.
  #watch() {
    clearTimeout(this.#beat);
    this.#beat = setTimeout(() => {
      const asked = Date.now();
      this.send({ type: "ping" });
      this.#beat = setTimeout(() => (this.#heard >= asked ? this.#watch() : this.#lost()), PING_PATIENCE);
    }, this.#silence);
  }

  #refused(reason) {
    this.#drop();
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#token = null;
    this.#listener.onState("refused", { reason });
  }

  #lost() {
    this.#drop();
    clearTimeout(this.#timer);
    let pause = Math.min(FIRST_PAUSE * 2 ** this.#tries, LONGEST_PAUSE);
    if (this.#reason === "draining") pause = Math.max(pause, RESTART_PAUSE);
    pause *= 0.5 + Math.random() / 2; // a thousand pages shall not come back in the same instant
    this.#tries += 1;
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#listener.onState("waiting", { seconds: Math.ceil(pause / 1000), reason: this.#reason });
  }

  #drop() {
    clearTimeout(this.#beat);
    this.#welcomed = false;
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}
