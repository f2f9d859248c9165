/** The page: its frame, its views, and which of them is shown. */
import "./style.css";
import { h } from "./dom";
import { makeFilesView } from "./files/view";
import { Live } from "./live";
import { toasts } from "./toasts";
import { makeUploadView } from "./upload/view";

async function start(): Promise<void> {
  const live = new Live();
  const upload = await makeUploadView();
  const files = makeFilesView(live);
  const views = new Map([
    ["upload", upload.element],
    ["files", files],
  ]);
  const links = new Map([...views.keys()].map((name) => [name, h("a", { href: `#${name}` }, title(name))]));
  const progress = h("span", { class: "progress", "aria-hidden": "true" });
  upload.onProgress((percent) => (progress.textContent = percent === null ? "" : `Uploading, ${percent} %`));
  document
    .getElementById("page")
    ?.replaceChildren(
      h(
        "header",
        { class: "bar" },
        h("strong", {}, "Haulier"),
        h("nav", { "aria-label": "Views" }, ...links.values()),
        progress,
        connection(live),
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
  live.start();
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

void start();
