/** All about one file, and what can be done with it. */
import { assetUrl, type Asset, type FileRecord } from "../api";
import { h, renew } from "../dom";
import { exactTime, size } from "../format";
import { wordsOfRecord } from "../words";
import { makeLinkForm } from "./link";
import { picture } from "./picture";

export interface DrawerActions {
  delete: (record: FileRecord) => void;
  closed: () => void;
}

export class Drawer {
  readonly element: HTMLDialogElement;
  readonly #title = h("h2", { id: "drawer-title" });
  readonly #preview = h("div", {});
  readonly #actions = h("div", { class: "actions" });
  readonly #trouble = h("div", {});
  readonly #link = h("div", {});
  readonly #facts = h("dl", {});
  readonly #stored = h("h3", {}, "What is stored");
  readonly #assets = h("ul", { class: "assets" });
  #record: FileRecord | null = null;

  constructor(private readonly actions: DrawerActions) {
    const close = (): void => this.element.close();
    this.element = h(
      "dialog",
      { class: "drawer", "aria-labelledby": "drawer-title" },
      h(
        "div",
        { class: "content" },
        h(
          "header",
          {},
          this.#title,
          h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: close }, "✕"),
        ),
        this.#preview,
        this.#actions,
        this.#trouble,
        this.#link,
        this.#facts,
        this.#stored,
        this.#assets,
      ),
    );
    this.element.addEventListener("click", (event) => {
      // The element itself is what is around its content: the page behind it.
      if (event.target === this.element) this.element.close();
    });
    this.element.addEventListener("close", () => {
      this.#record = null;
      this.actions.closed();
    });
    // Going back leaves the view, and what stays open in a hidden view would block the page.
    addEventListener("hashchange", close);
  }

  get shown(): FileRecord | null {
    return this.#record;
  }

  open(record: FileRecord): void {
    this.show(record);
    if (!this.element.open) this.element.showModal();
    this.element.scrollTop = 0;
  }

  close(): void {
    this.element.close();
  }

  /** Show the record as it is now. What did not change stays: a link that was made, a place, the focus. */
  show(record: FileRecord): void {
    if (record === this.#record) return;
    if (record.id !== this.#record?.id) this.#link.replaceChildren();
    this.#record = record;
    const original = record.assets.find((asset) => asset.kind === "original");
    this.#title.textContent = record.filename;
    renew(this.#preview, ...preview(record));
    renew(this.#actions, ...this.#possible(record, original));
    renew(this.#trouble, ...(record.error ? [h("p", { class: "error" }, wordsOfRecord(record.error))] : []));
    if (original && !this.#link.firstChild) this.#link.append(makeLinkForm(record));
    renew(this.#facts, ...facts(record));
    this.#stored.hidden = this.#assets.hidden = record.assets.length === 0;
    renew(this.#assets, ...record.assets.map((asset) => assetItem(record, asset)));
  }

  #possible(record: FileRecord, original: Asset | undefined): HTMLElement[] {
    const address = { href: assetUrl(record, "original"), download: record.filename };
    const remove = { type: "button", class: "danger", onclick: () => this.#delete() };
    return [
      ...(original ? [h("a", { class: "button", ...address }, "Download")] : []),
      ...(record.status === "uploading" ? [] : [h("button", remove, "Delete")]),
    ];
  }

  #delete(): void {
    const record = this.#record;
    this.element.close();
    if (record) this.actions.delete(record);
  }
}

function preview(record: FileRecord): HTMLElement[] {
  const asset = ["display", "thumbnail"]
    .map((kind) => record.assets.find((one) => one.kind === kind))
    .find(Boolean);
  if (!asset) return [];
  const { width, height, kind } = asset;
  const alt = `Picture of ${record.filename}`;
  return [picture(assetUrl(record, kind), { class: "preview", width, height, alt })];
}

function facts(record: FileRecord): HTMLElement[] {
  const digests = Object.entries(record.digest ?? {});
  const pairs: [string, string][] = [
    ["Status", record.status],
    ["Size", sizeToTheByte(record.size)],
    ["Kind", record.content_type],
    ["Path", record.path ?? ""],
    ["Space", record.capsule],
    ["Added", exactTime(record.created_at)],
    ["Arrived", exactTime(record.uploaded_at)],
    ["Finished", exactTime(record.finished_at)],
    ...digests.map(([name, value]): [string, string] => [name.toUpperCase(), value]),
    ["Id", record.id],
  ];
  const shown = pairs.filter(([, value]) => value !== "");
  return shown.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}

function sizeToTheByte(bytes: number | null): string {
  if (bytes === null) return "not known yet";
  return bytes < 1000 ? size(bytes) : `${size(bytes)} (${bytes.toLocaleString()} bytes)`;
}

function assetItem(record: FileRecord, asset: Asset): HTMLElement {
  const pixels = asset.width && asset.height ? `, ${asset.width} × ${asset.height}` : "";
  return h(
    "li",
    {},
    // Beside the page: what is being sent goes on.
    h("a", { href: assetUrl(record, asset.kind), target: "_blank", rel: "noopener" }, asset.kind),
    ` ${asset.content_type}, ${size(asset.size)}${pixels}`,
  );
}
