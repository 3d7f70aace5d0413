// What is said to people, where it is not in the page itself.

export const STATES = {
  connecting: "Connecting\u2026",
  online: "Connected",
  waiting: "No connection. Trying again\u2026",
  draining: "The server restarts\u2026",
  refused: "Signed out",
  closed: "Signed out",
};

// Why the server ended a session for good.
export const REFUSALS = {
  unauthenticated: "This token is not valid. It may be mistyped, expired or revoked.",
  expired: "Your access has expired. Sign in with a new token.",
  revoked: "Your access was revoked.",
};

// Why a message was not taken.
const PROBLEMS = {
  malformed: "the server did not understand it",
  too_large: "it is too long",
  not_permitted: "you may not write in this room",
  rooms: "there are too many rooms",
  id_reused: "another message has taken its place",
  internal: "the server has a fault",
};

export function problemOf(code) {
  return PROBLEMS[code] ?? "the server refused it";
}

export function roomProblem(name, code) {
  if (code === "not_permitted") return `You may not read \u201c${name}\u201d.`;
  return `\u201c${name}\u201d cannot be opened: ${problemOf(code)}.`;
}

export function tooLong(length, most) {
  return `This message is too long: ${Math.ceil(length / 1024)} KiB, and ${Math.floor(most / 1024)} KiB fit.`;
}
