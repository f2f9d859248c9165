/** All about one file, and what can be done with it. */
import { assetUrl, type Asset, type FileRecord } from "../api";
import { h } from "../dom";
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
  #record: FileRecord | null = null;

  constructor(private readonly actions: DrawerActions) {
    this.element = h("dialog", { class: "drawer", "aria-labelledby": "drawer-title" });
    this.element.addEventListener("click", (event) => {
      // The element itself is what is around its content: the page behind it.
      if (event.target === this.element) this.element.close();
    });
    this.element.addEventListener("close", () => {
      this.#record = null;
      this.actions.closed();
    });
  }

  get shown(): FileRecord | null {
    return this.#record;
  }

  open(record: FileRecord): void {
    this.show(record);
    if (!this.element.open) this.element.showModal();
  }

  close(): void {
    this.element.close();
  }

  /** Show the record as it is now. */
  show(record: FileRecord): void {
    if (record === this.#record) return;
    this.#record = record;
    this.element.replaceChildren(this.#content(record));
  }

  #content(record: FileRecord): HTMLElement {
    const original = record.assets.find((asset) => asset.kind === "original");
    return h(
      "div",
      { class: "content" },
      h(
        "header",
        {},
        h("h2", { id: "drawer-title" }, record.filename),
        h(
          "button",
          { type: "button", class: "plain", "aria-label": "Close", onclick: () => this.element.close() },
          "✕",
        ),
      ),
      preview(record),
      h(
        "div",
        { class: "actions" },
        original &&
          h(
            "a",
            { class: "button", href: assetUrl(record, "original"), download: record.filename },
            "Download",
          ),
        record.status !== "uploading" &&
          h("button", { type: "button", class: "danger", onclick: () => this.#delete(record) }, "Delete"),
      ),
      record.error && h("p", { class: "error" }, wordsOfRecord(record.error)),
      original && makeLinkForm(record),
      facts(record),
      h("h3", {}, "What is stored"),
      h("ul", { class: "assets" }, ...record.assets.map((asset) => assetItem(record, asset))),
    );
  }

  #delete(record: FileRecord): void {
    this.element.close();
    this.actions.delete(record);
  }
}

function preview(record: FileRecord): HTMLElement | null {
  const asset = ["display", "thumbnail"]
    .map((kind) => record.assets.find((one) => one.kind === kind))
    .find(Boolean);
  if (!asset) return null;
  const { width, height, kind } = asset;
  return picture(assetUrl(record, kind), {
    class: "preview",
    width,
    height,
    alt: `Picture of ${record.filename}`,
  });
}

function facts(record: FileRecord): HTMLElement {
  const digests = Object.entries(record.digest ?? {});
  const pairs: [string, string][] = [
    ["Status", record.status],
    [
      "Size",
      record.size === null ? "not known yet" : `${size(record.size)} (${record.size.toLocaleString()} bytes)`,
    ],
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
  return h("dl", {}, ...shown.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
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
