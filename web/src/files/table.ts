/** A table of any length: only the rows that can be seen are in the document.
 *
 * Every row has the same height, so nothing moves when a picture comes, and the bar at the side tells the truth.
 * The keys are those of a grid: arrows, Home, End, Page Up and Page Down move, Enter opens, Delete deletes.
 */
import { assetUrl, type FileRecord } from "../api";
import { h } from "../dom";
import { exactTime, size, time } from "../format";
import { picture } from "./picture";

/** Pixels; the style sheet has the same number. */
const ROW = 56;
/** Rows above and below what can be seen, so that scrolling shows no gaps. */
const SPARE = 10;
/** So many rows before the end the next page is asked for. */
const AHEAD = 120;

export interface TableActions {
  open: (record: FileRecord) => void;
  delete: (record: FileRecord) => void;
  /** Whether a record is still in the list. */
  has: (id: string) => boolean;
  /** The end of what is here comes near. */
  near: () => void;
}

export class Table {
  readonly element: HTMLElement;
  readonly #body: HTMLElement;
  readonly #rows = new Map<string, { record: FileRecord; element: HTMLElement }>();
  #records: readonly FileRecord[] = [];
  #active: string | null = null;
  #frame = 0;

  constructor(private readonly actions: TableActions) {
    this.#body = h("div", { class: "rows", role: "rowgroup" });
    this.element = h(
      "div",
      { class: "table", role: "grid", "aria-label": "Files", tabindex: 0 },
      h("div", { role: "rowgroup", class: "head" }, head()),
      this.#body,
    );
    this.element.addEventListener("scroll", () => this.#later(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#later()).observe(this.element);
  }

  /** Show these; what is shown already stays where it is on the screen. */
  show(records: readonly FileRecord[], { hasMore }: { hasMore: boolean }): void {
    const anchor = this.#anchor();
    this.#records = records;
    this.element.setAttribute("aria-rowcount", String(hasMore ? -1 : records.length + 1));
    this.#body.style.height = `${records.length * ROW}px`;
    this.#keep(anchor);
    this.#drop();
    this.#draw();
  }

  /** The row under the upper edge, and how far it is above it; null at the top, where new rows are welcome. */
  #anchor(): { id: string; offset: number } | null {
    const top = this.element.scrollTop;
    const record = top < ROW ? undefined : this.#records[Math.floor(top / ROW)];
    return record ? { id: record.id, offset: top % ROW } : null;
  }

  #keep(anchor: { id: string; offset: number } | null): void {
    if (!anchor) return;
    const index = this.#records.findIndex((record) => record.id === anchor.id);
    if (index >= 0) this.element.scrollTop = index * ROW + anchor.offset;
  }

  #later(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw(): void {
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - SPARE);
    const last = Math.min(this.#records.length, Math.ceil((scrollTop + clientHeight) / ROW) + SPARE);
    const seen = new Set<string>();
    for (let index = first; index < last; index += 1) {
      const record = this.#records[index];
      if (!record) continue;
      seen.add(record.id);
      this.#place(record, index);
    }
    for (const [id, row] of this.#rows) {
      if (seen.has(id) || row.element.contains(document.activeElement)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    if (last + AHEAD >= this.#records.length) this.actions.near();
  }

  /** Take out rows whose records are gone; where the keyboard was it goes on with the row that takes their place. */
  #drop(): void {
    for (const [id, row] of this.#rows) {
      if (this.actions.has(id)) continue;
      const index = Number(row.element.getAttribute("aria-rowindex")) - 2;
      const focused = row.element.contains(document.activeElement);
      row.element.remove();
      this.#rows.delete(id);
      if (focused) this.#focus(Math.min(index, this.#records.length - 1));
    }
  }

  #place(record: FileRecord, index: number): void {
    let row = this.#rows.get(record.id);
    if (row?.record !== record) {
      const element = this.#make(record);
      if (row) {
        const focused = row.element === document.activeElement;
        row.element.replaceWith(element);
        if (focused) element.focus();
      } else this.#body.append(element);
      row = { record, element };
      this.#rows.set(record.id, row);
    }
    row.element.style.transform = `translateY(${index * ROW}px)`;
    row.element.setAttribute("aria-rowindex", String(index + 2));
  }

  #make(record: FileRecord): HTMLElement {
    const cell = (name: string, ...children: (Node | string)[]): HTMLElement =>
      h("div", { role: "gridcell", class: name }, ...children);
    const row = h(
      "div",
      {
        role: "row",
        class: "row",
        tabindex: -1,
        "data-id": record.id,
        onclick: () => this.actions.open(record),
      },
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
    );
    row.addEventListener("focus", () => (this.#active = record.id));
    return row;
  }

  #key(event: KeyboardEvent): void {
    const index = this.#records.findIndex((record) => record.id === this.#active);
    const record = this.#records[index];
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 1);
    const moves: Record<string, number> = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      PageDown: index + page,
      PageUp: index - page,
      Home: 0,
      End: this.#records.length - 1,
    };
    const move = moves[event.key];
    if (move !== undefined) this.#focus(Math.min(Math.max(move, 0), this.#records.length - 1));
    else if (event.key === "Enter" && record) this.actions.open(record);
    else if (event.key === "Delete" && record) this.actions.delete(record);
    else return;
    event.preventDefault();
  }

  #focus(index: number): void {
    const record = this.#records[index];
    if (!record) return;
    const top = index * ROW;
    const height = this.element.clientHeight - ROW;
    const { scrollTop } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + ROW > scrollTop + height) this.element.scrollTop = top + ROW - height;
    this.#active = record.id;
    this.#draw();
    this.#rows.get(record.id)?.element.focus({ preventScroll: true });
  }
}

function head(): HTMLElement {
  const column = (name: string, text: string): HTMLElement =>
    h("div", { role: "columnheader", class: name }, text || h("span", { class: "unseen" }, "Picture"));
  return h(
    "div",
    { role: "row", class: "row", "aria-rowindex": 1 },
    column("picture", ""),
    column("name", "Name"),
    column("status", "Status"),
    column("size", "Size"),
    column("time", "Added"),
  );
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
