/** Short notices at the bottom of the page, some with something to press. */
import { h } from "./dom";

/** How long a notice stays; long enough to reach its button with a keyboard. */
const STAYS_MS = 15_000;
/** More would cover the page. */
const AT_ONCE = 4;

const list = h("div", { class: "toasts", role: "status", "aria-live": "polite" });

export function toasts(): HTMLElement {
  return list;
}

/** Show a notice; the button, where there is one, takes it away. */
export function toast(text: string, button?: { label: string; press: () => void }): void {
  const end = (): void => notice.remove();
  // Whoever is at its button is not hurried.
  const fade = (): void => {
    if (notice.matches(":hover, :focus-within")) setTimeout(fade, STAYS_MS);
    else end();
  };
  const action = button
    ? h("button", { type: "button", onclick: pressed(end, button.press) }, button.label)
    : null;
  const notice = h("div", { class: "toast" }, h("span", {}, text), action);
  list.append(notice);
  while (list.childElementCount > AT_ONCE) list.firstElementChild?.remove();
  setTimeout(fade, STAYS_MS);
}

function pressed(...jobs: (() => void)[]): () => void {
  return () => {
    for (const job of jobs) job();
  };
}
