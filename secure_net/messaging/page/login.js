// The card on which somebody says who they are: the browser's client certificate, or a token that is pasted.

import { byId } from "./view.js";

let certificate = ""; // who the browser's client certificate names

// `open(token)` opens the link; with null it is the certificate that counts.
export async function begin(open) {
  byId("login").addEventListener("submit", (event) => signIn(event, open));
  byId("login-certificate").addEventListener("click", () => open(null));
  byId("token").addEventListener("keydown", (event) => {
    if (event.key === "Enter") signIn(event, open);
  });
  try {
    const answer = await fetch("/whoami", { cache: "no-store" });
    certificate = (await answer.json()).principal ?? "";
  } catch {
    certificate = ""; // whoever signs in will be told that the server cannot be reached
  }
  showLogin("");
  if (certificate) open(null);
}

export function showLogin(problem) {
  byId("app").hidden = true;
  byId("welcome").hidden = false;
  byId("token").value = "";
  byId("login-certificate").hidden = byId("login-or").hidden = !certificate;
  byId("login-certificate").textContent = `Continue as ${certificate}`;
  document.title = "Chat";
  sayProblem(problem);
  byId(certificate ? "login-certificate" : "token").focus();
}

export function hideLogin() {
  byId("token").value = "";
  sayProblem("");
  byId("welcome").hidden = true;
  byId("app").hidden = false;
}

export function isLoginShown() {
  return byId("app").hidden;
}

export function sayProblem(problem) {
  byId("login-error").textContent = problem;
}

// While a try is under way there is no second one.
export function busyLogin(isBusy) {
  byId("login-token").disabled = byId("login-certificate").disabled = isBusy;
}

function signIn(event, open) {
  event.preventDefault();
  const token = byId("token").value.trim();
  sayProblem(token ? "" : "Paste a token first.");
  if (token) open(token);
  else byId("token").focus();
}
