// On a narrow screen the lists are panels over the conversation, one at a time.

import { byId } from "./view.js";

const NARROW = matchMedia("(max-width: 760px)");
const PANELS = { "rooms-panel": "show-rooms", "people-panel": "show-people" };

export function isNarrow() {
  return NARROW.matches;
}

export function openPanel(panel) {
  closePanels();
  byId(panel).classList.add("open");
  byId("veil").hidden = false;
  arrange();
  byId(PANELS[panel]).setAttribute("aria-expanded", "true");
  byId(panel).querySelector(".close-panel").focus();
}

export function closePanels() {
  const opened = openedPanel();
  if (!opened) return;
  const hadFocus = byId(opened).contains(document.activeElement);
  byId(opened).classList.remove("open");
  byId(PANELS[opened]).setAttribute("aria-expanded", "false");
  byId("veil").hidden = true;
  arrange();
  if (hadFocus) byId(PANELS[opened]).focus();
}

function openedPanel() {
  return Object.keys(PANELS).find((panel) => byId(panel).classList.contains("open"));
}

// What is out of sight is out of the tab order, and out of a screen reader's way.
export function arrange() {
  const opened = openedPanel();
  for (const panel of Object.keys(PANELS)) byId(panel).inert = NARROW.matches && panel !== opened;
  byId("conversation").inert = NARROW.matches && opened !== undefined;
}

for (const [panel, button] of Object.entries(PANELS)) {
  byId(button).addEventListener("click", () => openPanel(panel));
  byId(panel).querySelector(".close-panel").addEventListener("click", closePanels);
}
byId("veil").addEventListener("click", closePanels);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closePanels();
});
NARROW.addEventListener("change", () => {
  closePanels();
  arrange();
});
