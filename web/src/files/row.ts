/** One row of the list of files. Its element stays while what it says changes, with the focus that it may have. */
import { assetUrl, type FileRecord } from "../api";
import { h, renew } from "../dom";
import { exactTime, size, time } from "../format";
import { picture } from "./picture";

export interface RowActions {
  open: () => void;
  focused: () => void;
}

export class Row {
  readonly element: HTMLElement;
  /** Its place in the list, from 0. */
  place = -1;

  constructor(
    public record: FileRecord,
    { open, focused }: RowActions,
  ) {
    this.element = h(
      "div",
      { role: "row", class: "row", tabindex: -1, "data-id": record.id, onclick: open, onfocus: focused },
      ...cells(record),
    );
  }

  /** Show the record as it is now, so many rows of so many pixels from the top. */
  show(record: FileRecord, place: number, height: number): void {
    const changed = record !== this.record && JSON.stringify(record) !== JSON.stringify(this.record);
    this.record = record;
    if (changed) renew(this.element, ...cells(record));
    if (place === this.place) return;
    this.place = place;
    this.element.style.transform = `translateY(${place * height}px)`;
    // Counted from 1, and the head is the first.
    this.element.setAttribute("aria-rowindex", String(place + 2));
  }
}

function cells(record: FileRecord): HTMLElement[] {
  const cell = (name: string, ...children: (Node | string)[]): HTMLElement =>
    h("div", { role: "gridcell", class: name }, ...children);
  return [
    cell("picture", small(record)),
    cell(
      "name",
      h("span", { class: "filename" }, record.filename),
      record.path ? h("span", { class: "path" }, folderOf(record.path)) : "",
    ),
    cell("status", h("span", { class: `badge ${record.status}` }, record.status)),
    cell("size", size(record.size)),
    cell(
      "time",
      h(
        "time",
        { datetime: record.created_at, title: exactTime(record.created_at) },
        time(record.created_at),
      ),
    ),
  ];
}

/** A box of one size: the placeholder at once, the thumbnail over it when it is here, else the kind of file. */
function small(record: FileRecord): HTMLElement {
  const asset = (kind: string) => record.assets.find((one) => one.kind === kind);
  const placeholder = asset("placeholder")?.data_url;
  const thumbnail = asset("thumbnail") && assetUrl(record, "thumbnail");
  const image = (src: string): HTMLElement =>
    picture(src, { alt: "", width: 40, height: 40, loading: "lazy", decoding: "async" });
  return h(
    "div",
    { class: "thumbnail" },
    !placeholder && !thumbnail && h("span", { "aria-hidden": "true" }, extension(record.filename)),
    placeholder && image(placeholder),
    thumbnail && image(thumbnail),
  );
}

function extension(name: string): string {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(dot + 1, dot + 5) : "file";
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}
