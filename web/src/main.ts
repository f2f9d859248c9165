/** The page: its frame, its views, and which of them is shown. */
import "./style.css";
import type { Problem, Unreachable } from "./api";
import { h, type Child } from "./dom";
import { makeFilesView } from "./files/view";
import { Live } from "./live";
import { persistently } from "./patience";
import { enter, enterAgain, isGuest, offerSignIn, personOf, signOut, type Session } from "./session";
import { makeTransfersView } from "./transfers/view";
import { toast, toasts } from "./toasts";
import { makeUploadView } from "./upload/view";
import { sentence } from "./words";

async function start(): Promise<void> {
  const session = await persistently(enter, new AbortController().signal, tellWaiting);
  const live = new Live();
  const upload = await makeUploadView(session);
  const views = new Map([
    ["upload", upload.element],
    ["files", makeFilesView(live, session)],
  ]);
  const transfers = session.scope === "operator" ? await makeTransfersView(live, tellWaiting) : null;
  if (transfers) views.set("transfers", transfers);
  const links = new Map([...views.keys()].map((name) => [name, h("a", { href: `#${name}` }, title(name))]));
  const progress = h("span", { class: "progress", "aria-hidden": "true" });
  upload.onProgress((percent) => (progress.textContent = percent === null ? "" : `Uploading, ${percent} %`));
  page().replaceChildren(
    h(
      "header",
      { class: "bar" },
      h("strong", {}, "Haulier"),
      h("nav", { "aria-label": "Views" }, ...links.values()),
      progress,
      h("div", { class: "end" }, connection(live), ...person(session)),
    ),
    h("main", {}, ...views.values()),
    toasts(),
  );
  const show = (): void => {
    const wanted = location.hash.slice(1).split("?")[0] ?? "";
    const name = views.has(wanted) ? wanted : "upload";
    for (const [key, view] of views) view.hidden = key !== name;
    for (const [key, link] of links) {
      if (key === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${title(name)} · Haulier`;
  };
  addEventListener("hashchange", show);
  show();
  live.listen((message) => {
    // Perhaps the sign-in is over; when there is no answer the stream is tried again all the same.
    if (message.type === "refused") void enterAgain().catch(() => undefined);
  });
  live.start();
}

/** While there is no page yet: what it waits for. */
function tellWaiting(because: Problem | Unreachable | null): void {
  if (because) page().replaceChildren(notice(h("p", { role: "status" }, sentence(because))));
}

function notice(...children: Child[]): HTMLElement {
  return h("main", { class: "failed" }, h("h1", {}, "Haulier"), ...children);
}

function page(): HTMLElement {
  return document.getElementById("page") ?? document.body;
}

function title(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}

/** Says when what is shown may be old. */
function connection(live: Live): HTMLElement {
  const state = h("span", { class: "connection", role: "status" });
  live.listen((message) => {
    if (message.type === "connected")
      state.textContent = message.connected ? "" : "No connection; trying again";
  });
  return state;
}

/** Who is signed in, and the way out; or the way in. */
function person(session: Session): HTMLElement[] {
  const name = personOf(session);
  if (name !== null) {
    const leave = (): void => void signOut().catch((error: unknown) => toast(sentence(error)));
    return [
      h("span", { class: "person" }, name),
      h("button", { type: "button", onclick: leave }, "Sign out"),
    ];
  }
  return isGuest(session) ? [h("button", { type: "button", onclick: () => void begin() }, "Sign in")] : [];
}

async function begin(): Promise<void> {
  if (await offerSignIn()) location.reload();
}

start().catch((error: unknown) => {
  const again = h("button", { type: "button", onclick: () => location.reload() }, "Try again");
  page().replaceChildren(notice(h("p", { role: "alert" }, sentence(error)), again));
});
