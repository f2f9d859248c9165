/** A table of any length: only the rows that can be seen are in the document, and the one that the keyboard is at.
 *
 * Rule 1: every row has the same height, so nothing moves when a picture comes, and the bar at the side tells the truth.
 * Rule 2: the keys are those of a grid: arrows, Home, End, Page Up and Page Down move, Enter opens, Delete deletes.
 * Rule 3: the keyboard stays where it is, whatever happens to the list: a record's row keeps its element, and where the
 *         record goes the next one takes its place.
 * Rule 4: rows are in the document in the order in which they are seen, which is the order in which they are read out.
 */
import type { FileRecord } from "../api";
import { h } from "../dom";
import { Row } from "./row";

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
  readonly #rows = new Map<string, Row>();
  #records: readonly FileRecord[] = [];
  /** The place of the row that the keyboard is at, or was at last; -1 before there was one. */
  #current = -1;
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
    const row = this.#rows.get(this.#records[this.#current]?.id ?? "");
    const focused = row?.element === document.activeElement;
    const current = this.#successor()?.id;
    this.#records = records;
    this.#current = records.findIndex(({ id }) => id === current);
    this.element.setAttribute("aria-rowcount", String(hasMore ? -1 : records.length + 1));
    this.#body.style.height = `${records.length * ROW}px`;
    this.#keep(anchor);
    this.#draw();
    if (focused && !row.element.isConnected) this.resume();
  }

  /** Go on with the keyboard where it was: at the same record, or at the one that took its place. */
  resume(): void {
    if (this.#current >= 0) this.#focus(this.#current);
    else this.element.focus();
  }

  /** Go on with the keyboard at this record. */
  goTo(id: string): void {
    this.#focus(this.#records.findIndex((record) => record.id === id));
  }

  /** The record that the keyboard is at; where that is gone the next one that stays, or else the one before. */
  #successor(): FileRecord | undefined {
    const stays = ({ id }: FileRecord): boolean => this.actions.has(id);
    const current = this.#records[this.#current];
    if (!current || stays(current)) return current;
    const [before, after] = [this.#records.slice(0, this.#current), this.#records.slice(this.#current)];
    return after.find(stays) ?? before.findLast(stays);
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
    const places = Array.from({ length: Math.max(last - first, 0) }, (_, index) => first + index);
    // Out of sight, but in the document: an element that is taken out loses the focus.
    if (this.#current >= last) places.push(this.#current);
    else if (this.#current >= 0 && this.#current < first) places.unshift(this.#current);
    this.#place(places);
    if (last + AHEAD >= this.#records.length) this.actions.near();
  }

  /** Let the document have the rows of these places, in this order; those that are there already are not touched. */
  #place(places: readonly number[]): void {
    const wanted = new Set(places.map((place) => this.#records[place]?.id));
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    let next = this.#body.firstChild;
    for (const place of places) {
      const record = this.#records[place];
      if (!record) continue;
      const row = this.#rows.get(record.id) ?? this.#make(record);
      row.show(record, place, ROW);
      if (row.element === next) next = next.nextSibling;
      else this.#body.insertBefore(row.element, next);
    }
  }

  #make(record: FileRecord): Row {
    const row: Row = new Row(record, {
      open: () => this.actions.open(row.record),
      focused: () => (this.#current = row.place),
    });
    this.#rows.set(record.id, row);
    return row;
  }

  #key(event: KeyboardEvent): void {
    const current = this.#current;
    const record = this.#records[current];
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 1);
    const moves: Record<string, number> = {
      ArrowDown: current + 1,
      ArrowUp: current - 1,
      PageDown: current + page,
      PageUp: current - page,
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

  #focus(place: number): void {
    const record = this.#records[place];
    if (!record) return;
    const top = place * ROW;
    const height = this.element.clientHeight - ROW;
    const { scrollTop } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + ROW > scrollTop + height) this.element.scrollTop = top + ROW - height;
    this.#current = place;
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
